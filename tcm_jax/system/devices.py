"""JAX's devices and settings as our programs need them, whatever the environment or a host program has set."""

import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tcm_jax.errors import ConfigError, TcmError
from tcm_jax.system.program_cache import set_up_jax

if TYPE_CHECKING:  # a process that only runs steps does without
    import jax

# Context managers of JAX, each for the thread that enters it, and what our programs are written for.
_PINNED = {
    "disable_jit": False,
    "transfer_guard": "allow",
    "numpy_rank_promotion": "allow",
    "numpy_dtype_promotion": "standard",
    "default_matmul_precision": None,
    "debug_nans": False,
    "debug_infs": False,
    "check_tracer_leaks": False,
}
_users: list[int] = []  # the process that used JAX's devices first


def beside_accelerators() -> bool:
    """Whether JAX has something installed for other devices and may use it; its devices are not asked for."""
    if "jax" in sys.modules:
        import jax

        settings: Any = jax.config  # its types name no setting
        platforms = settings.jax_platforms
    else:
        platforms = os.environ.get("JAX_PLATFORMS")
    if platforms:
        return platforms.split(",")[0] != "cpu"
    return any(importlib.util.find_spec(name) is not None for name in ("jax_plugins", "libtpu"))


def only_this_cpu() -> bool:
    """Whether nobody has imported JAX yet, and it would find no device but this machine's processor."""
    return "jax" not in sys.modules and not beside_accelerators()


def codec_devices() -> "list[jax.Device] | list[None]":
    """Devices that each have a codec; None is this processor, for which JAX need not be asked."""
    return [None] if only_this_cpu() else local_devices()


def local_devices() -> "list[jax.Device]":
    """JAX's devices of this process. Raises ConfigError where JAX_PLATFORMS asks for what is not there."""
    import jax

    try:
        return jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter for cuda where no CUDA is installed
        settings: Any = jax.config  # its types name no setting
        reason = (str(error).strip().splitlines() or [f"JAX_PLATFORMS is {settings.jax_platforms}"])[0]
        raise ConfigError(f"JAX has no device to compute on: {reason}") from error


def default_device() -> "jax.Device":
    """The device to which JAX now sends what is meant for no other."""
    import jax

    (device,) = jax.device_put(0.0).devices()
    return device


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Gives this thread, within the `with` block, JAX's own settings, whatever the environment or its host has set.

    Whoever may do without JAX does not import it for that; who uses it then is `pinned` again.
    Raises ConfigError as `local_devices` does; TcmError where JAX has named axes, and in a process that was forked from
    one that had asked for JAX's devices: its threads are lost, and it would wait for them for ever.
    """
    if only_this_cpu():
        yield
        return
    import jax

    set_up_jax()
    if not _users:
        _users.append(os.getpid())
    if os.getpid() != _users[0]:
        raise TcmError(
            "this process was forked from one that had used JAX, whose threads a fork loses; start processes with "
            'multiprocessing.get_context("spawn")'
        )
    local_devices()
    with contextlib.ExitStack() as settings:
        settings.enter_context(jax.core.eval_context())  # a host may be within jax.jit
        for name, value in _PINNED.items():
            settings.enter_context(getattr(jax, name)(value))
        settings.enter_context(_enable_x64(False))
        if hasattr(jax, "set_mesh"):  # a host's mesh would have to hold our device, and no other
            settings.enter_context(_no_mesh())
        yield


def _note_used_devices() -> None:
    """Before a fork: a host's JAX may have met its devices while the codec did without JAX."""
    have_been_asked_for = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    if not _users and have_been_asked_for is not None and have_been_asked_for():
        _users.append(os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note_used_devices)


def with_pinned(function: Callable) -> Callable:
    """`function`, run within `pinned()`."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        with pinned():
            return function(*args, **options)

    return call


def _no_mesh() -> contextlib.AbstractContextManager:
    import jax

    try:
        return jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ()))
    except ValueError as error:
        raise TcmError(
            "JAX runs no program within jax.vmap with an axis_name, nor within jax.shard_map; call this outside of it, "
            "or through jax.pure_callback"
        ) from error


def _enable_x64(value: bool) -> contextlib.AbstractContextManager:
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(value)
    from jax import experimental

    old: Any = experimental  # of JAX 0.5: newer types do not have it
    return old.enable_x64(value)
