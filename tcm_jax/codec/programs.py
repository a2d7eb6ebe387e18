"""Compiled programs, kept between processes (system/program_cache.py says where).

JAX's own cache finds what XLA compiled only after tracing and lowering, which takes seconds of Flax for a picture that
takes half a second. So a `Program` keeps its executables itself, under names that are known without tracing.
"""

import contextlib
import itertools
import math
import pickle
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from tcm_jax import ops
from tcm_jax.system import cache
from tcm_jax.system.devices import default_device
from tcm_jax.system.program_cache import kept

MADE = "/tcm_jax/programs/made"  # event of `jax.monitoring`: a program was compiled or loaded, in so many seconds

_compiling = threading.Lock()


class Parameters:
    """Nested parameters on one device, taken apart once: it takes as long as to call a small program."""

    def __init__(self, tree: Any, device: jax.Device | None = None):
        # Named, so that they stay there: a host's default may be another at the next call.
        self.tree = jax.device_put(tree, device or default_device())
        self.leaves, self.structure = jax.tree.flatten(self.tree)
        (self.device,) = self.leaves[0].devices()


class Executable:
    """A compiled program as a function of parameters, of which it takes the leaves `used`, and grids."""

    def __init__(self, used: Sequence[int], program: Any):
        self.used, self.program = used, program

    def __call__(self, params: Parameters, *grids: Any) -> Any:
        return self.program([params.leaves[i] for i in self.used], *grids)


class Program:
    """A function of a configuration, its parameters, maybe a number, and grids, compiled for each of their shapes.

    The configuration and Python integers are static. `precise` computes matrix products in full float32, for what
    encoder and decoder must agree on, and the same for any number of threads. `target` says, of a platform, what is
    traced for: the codec's kernels have no gradients.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        precise: bool = False,
        target: Callable[[str], ops.Target] = ops.codec_target,
    ):
        self.function, self.precise, self.target = function, precise, target
        self._compiled: dict[Any, Executable] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Programs made or loaded so far."""
        return len(self._compiled)

    def __call__(self, config: Any, params: Parameters, *args: Any) -> Any:
        return self.executable(config, params, *args)(params, *_grids(args))

    def executable(self, config: Any, params: Parameters, *args: Any) -> Executable:
        """What a call with these arguments runs."""
        static, grids = tuple(arg for arg in args if isinstance(arg, int)), _grids(args)
        leaves, tree = jax.tree.flatten(grids)
        key = (config, params.device, static, tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        with self._lock:  # one thread compiles, the others wait for it
            if key not in self._compiled:
                start = time.perf_counter()
                self._compiled[key] = self._make(key, params, grids)
                jax.monitoring.record_event_duration_secs(MADE, time.perf_counter() - start)
        return self._compiled[key]

    def _make(self, key: Any, params: Parameters, grids: Any) -> Executable:
        config, device, static, tree, shapes = key
        target = self.target(device.platform)  # XLA must know the kernels to load a program, too
        function = self.traced(target, config, params.structure, static)
        where = f"{device.platform} {device.client.platform_version} {device.device_kind} {device.id}"
        path = kept(f"{self.function.__name__} {config.to_json()} {where} {target} {static} {tree} {shapes}")
        if path is None:
            compiled = jax.jit(function).lower(params.leaves, *grids).compile()
            return Executable(range(len(params.leaves)), compiled)
        try:
            return _load(cache.read(path) or b"", device)
        except Exception:  # not there, or damaged
            return _make_and_keep(path, device, function, params, grids)

    def traced(self, target: ops.Target, config: Any, structure: Any, static: tuple[int, ...]) -> Callable[..., Any]:
        """What is compiled for `target`: a function of the parameters' leaves and the grids."""

        def function(leaves, *grids):
            with ops.target(target), jax.default_matmul_precision("highest" if self.precise else None):
                return self.function(config, structure.unflatten(leaves), *static, *grids)

        return function


def _grids(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg for arg in args if not isinstance(arg, int))


def _make_and_keep(
    path: Path,
    device: jax.Device,
    function: Callable[..., Any],
    params: Parameters,
    grids: Any,
) -> Executable:
    """Compiles a program, and keeps it if it could be loaded again and run."""
    used, reduced = _reduced(function, params.leaves, grids)
    lowered = jax.jit(reduced).lower([params.leaves[i] for i in used], *grids)
    with _without_jax_cache():
        compiled = lowered.compile()
    try:
        data = zlib.compress(pickle.dumps((used, *serialize(compiled))))
        program = _load(data, device)
        jax.block_until_ready(program(params, *grids))
    except Exception:  # a device whose programs cannot be kept
        return Executable(used, compiled)
    cache.write_quietly(path, data)
    return program


@contextlib.contextmanager
def _without_jax_cache() -> Iterator[None]:
    """Compiles what is inside without JAX's own cache: what comes out of that cannot be kept again.

    The setting is the whole process's. It is touched only where JAX has a cache, and that is then one of ours
    (`program_cache.folder_of_programs`).
    """
    settings: Any = jax.config  # its types name no setting
    if not settings.jax_compilation_cache_dir:
        yield
        return
    with _compiling:
        seconds = settings.jax_persistent_cache_min_compile_time_secs
        jax.config.update("jax_persistent_cache_min_compile_time_secs", math.inf)
        try:
            yield
        finally:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def _reduced(function: Callable[..., Any], leaves: list[Any], grids: Any) -> tuple[list[int], Callable[..., Any]]:
    """Which of the leaves `function` reads, and the function of those: each costs time when it is loaded."""
    from jax.extend.core import jaxpr_as_fun

    closed, result = jax.make_jaxpr(function, return_shape=True)(leaves, *grids)
    count, jaxpr = len(leaves), closed.jaxpr
    read = {id(var) for var in itertools.chain(jaxpr.outvars, *(equation.invars for equation in jaxpr.eqns))}
    used = [i for i, var in enumerate(jaxpr.invars[:count]) if id(var) in read]

    def kept_program(leaves, *grids):
        every = [None] * count
        for i, leaf in zip(used, leaves, strict=True):
            every[i] = leaf
        results = jaxpr_as_fun(closed)(*every, *jax.tree.leaves(grids))
        return jax.tree.unflatten(jax.tree.structure(result), results)

    return used, kept_program


def _load(data: bytes, device: jax.Device) -> Executable:
    """A kept program. Like all of the cache folder, it is trusted: machine code is in it."""
    used, program, arguments, results = pickle.loads(zlib.decompress(data))
    return Executable(used, deserialize_and_load(program, arguments, results, execution_devices=[device]))
