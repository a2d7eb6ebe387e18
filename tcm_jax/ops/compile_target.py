"""What is traced now: for which platform, and with which of our kernels.

JAX says nowhere, while it traces, what it will compile for: its default backend is another device's wherever a process
has several. So whoever compiles says it (`codec/programs.py`, `training/step.py`), and what depends on it asks
`current`. Whatever keeps a trace must have its target in the key: enter `target` inside of the function that is jitted,
or make the target a static argument.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tcm_jax.ops import kernels

if TYPE_CHECKING:  # whoever finds programs kept does without
    import jax
    from jax.sharding import Mesh

# Which of our kernels: none; all, with gradients of maps; those with all gradients, which are first derivatives.
KERNELS = ("none", "codec", "training")
# Names of `precision`, and what JAX calls the products. TPUs take tf32 as three products of bfloat16.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}

_state = threading.local()


@dataclasses.dataclass(frozen=True)
class Target:
    """What a trace is for; hashable, to be a static argument."""

    platform: str  # as devices have it ("cpu", "gpu", "tpu"); "cuda" and "rocm" are "gpu"; "onnx" is no device
    kernels: str = "none"  # KERNELS
    mesh: "Mesh | None" = None  # whose devices share each batch; only kernels have to know

    def __post_init__(self):
        if self.kernels not in KERNELS or (self.kernels != "none" and self.platform != "cpu"):
            raise ValueError(f"{self.platform} has no kernels called {self.kernels!r}")
        if self.platform in ("cuda", "rocm"):
            object.__setattr__(self, "platform", "gpu")

    @property
    def on_cpu(self) -> bool:
        """Whether gradients made for CPUs are wanted."""
        return self.platform == "cpu"

    @property
    def gathers(self) -> bool:
        """Whether a look-up is an index and no product."""
        return self.platform in ("cpu", "onnx")

    def by_kernel(self, x: "jax.Array") -> bool:
        """Whether a map goes through the codec's kernels: all of them are for float32."""
        return self.kernels == "codec" and x.dtype == np.float32


def codec_target(platform: str) -> Target:
    """What a codec's programs are traced for: on CPUs all kernels, where XLA takes them."""
    return Target(platform, "codec" if platform == "cpu" and kernels.available() else "none")


def search_target(platform: str) -> Target:
    """What a search of latents is traced for: on CPUs all kernels and their gradients of maps, where XLA takes them."""
    return Target(platform, "codec" if platform == "cpu" and kernels.gradients_available() else "none")


def training_target(platform: str, mesh: "Mesh | None" = None) -> Target:
    """What a training step is traced for: on CPUs the kernels that have all gradients, where XLA takes them."""
    return Target(platform, "training" if platform == "cpu" and kernels.training_available() else "none", mesh)


def current() -> Target:
    """The target that was set last, by this thread; without one, JAX's default device without kernels."""
    set_by_thread = getattr(_state, "target", None)
    return set_by_thread or Target(_default_platform())


@contextlib.contextmanager
def target(wanted: Target) -> Iterator[None]:
    """What is traced within, by this thread, is for `wanted`, whose kernels are there (see the functions above)."""
    before = getattr(_state, "target", None)
    _state.target = wanted
    try:
        yield
    finally:
        _state.target = before


@contextlib.contextmanager
def precision(name: str | None) -> Iterator[None]:
    """Products of float32 maps within are taken as PRECISIONS[name] says; None leaves the surroundings' precision.

    CPUs have float32 products alone.
    """
    if name is None or current().on_cpu:
        yield
    else:
        import jax

        with jax.default_matmul_precision(PRECISIONS[name]):
            yield


def _default_platform() -> str:
    import jax

    settings: Any = jax.config  # its types name no setting
    device = settings.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform
