"""Programs for each size of picture, kept between processes (system/program_cache.py says where).

On a CPU with kernels a program is a list of steps (steps.py), elsewhere XLA compiles it. JAX's own cache finds what XLA
compiled only after tracing and lowering, which takes seconds of Flax for a picture that takes half a second. So a
`Program` keeps what it made itself, under names that are known without tracing.
"""

import contextlib
import functools
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
import numpy as np
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from tcm_jax import ops
from tcm_jax.codec.steps import Steps
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
        self.arranged: dict[str, np.ndarray] = {}  # for the kernels, by `Steps`

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """The leaves for NumPy."""
        return [np.asarray(leaf) for leaf in self.leaves]


class Stepwise:
    """Steps as a function of parameters and grids, with results of this structure."""

    def __init__(self, steps: Steps, structure: Any):
        self.steps, self.structure = steps, structure

    def __call__(self, params: Parameters, *grids: Any) -> Any:
        return jax.tree.unflatten(self.structure, self.steps(params, jax.tree.leaves(grids)))


class Executable:
    """A compiled program as a function of parameters, of which it takes the leaves `used`, and grids."""

    def __init__(self, used: Sequence[int], program: Any):
        self.used, self.program = used, program

    def __call__(self, params: Parameters, *grids: Any) -> Any:
        return self.program([params.leaves[i] for i in self.used], *grids)


class Program:
    """A function of a configuration, its parameters, maybe a number, and grids, made for each of their shapes.

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
        self._compiled: dict[Any, Stepwise | Executable] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Programs made or loaded so far."""
        return len(self._compiled)

    def __call__(self, config: Any, params: Parameters, *args: Any) -> Any:
        return self.executable(config, params, *args)(params, *_grids(args))

    def executable(self, config: Any, params: Parameters, *args: Any) -> Stepwise | Executable:
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

    def _make(self, key: Any, params: Parameters, grids: Any) -> Stepwise | Executable:
        config, device, static, tree, shapes = key
        target = self.target(device.platform)  # XLA must know the kernels to load a program, too
        function = self.traced(target, config, params.structure, static)
        where = f"{device.platform} {device.client.platform_version} {device.device_kind} {device.id}"
        path = kept(f"{self.function.__name__} {config.to_json()} {where} {target} {static} {tree} {shapes}")
        if path is not None and (data := cache.read(path)):
            with contextlib.suppress(Exception):  # damaged
                return _load(data, device)
        return _made(path, device, target, function, params, grids)

    def traced(self, target: ops.Target, config: Any, structure: Any, static: tuple[int, ...]) -> Callable[..., Any]:
        """What is made for `target`: a function of the parameters' leaves and the grids."""

        def function(leaves, *grids):
            with ops.target(target), jax.default_matmul_precision("highest" if self.precise else None):
                return self.function(config, structure.unflatten(leaves), *static, *grids)

        return function


def _grids(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg for arg in args if not isinstance(arg, int))


def _made(
    path: Path | None,
    device: jax.Device,
    target: ops.Target,
    function: Callable[..., Any],
    params: Parameters,
    grids: Any,
) -> Stepwise | Executable:
    """Makes a program, and keeps it if there is a place for it."""
    closed, result = jax.make_jaxpr(function, return_shape=True)(params.leaves, *grids)
    structure = jax.tree.structure(result)
    if target.kernels == "codec":
        with contextlib.suppress(NotImplementedError):  # a search's gradients have more than steps
            stepwise = Stepwise(Steps(closed, len(params.leaves)), structure)
            if path is not None:
                cache.write_quietly(path, zlib.compress(pickle.dumps(stepwise)))
            return stepwise
    used, reduced = _reduced(closed, len(params.leaves), structure)
    lowered = jax.jit(reduced).lower([params.leaves[i] for i in used], *grids)
    if path is None:
        return Executable(used, lowered.compile())
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


def _reduced(closed: Any, count: int, structure: Any) -> tuple[list[int], Callable[..., Any]]:
    """Which of `count` leaves a closed jaxpr reads, and the function of those: each costs time when it is loaded."""
    from jax.extend.core import jaxpr_as_fun

    jaxpr = closed.jaxpr
    read = {id(var) for var in itertools.chain(jaxpr.outvars, *(equation.invars for equation in jaxpr.eqns))}
    used = [i for i, var in enumerate(jaxpr.invars[:count]) if id(var) in read]

    def kept_program(leaves, *grids):
        every = [None] * count
        for i, leaf in zip(used, leaves, strict=True):
            every[i] = leaf
        return jax.tree.unflatten(structure, jaxpr_as_fun(closed)(*every, *jax.tree.leaves(grids)))

    return used, kept_program


def _load(data: bytes, device: jax.Device) -> Stepwise | Executable:
    """A kept program. Like all of the cache folder, it is trusted: machine code is in it."""
    found = pickle.loads(zlib.decompress(data))
    if isinstance(found, Stepwise):
        return found
    used, program, arguments, results = found
    return Executable(used, deserialize_and_load(program, arguments, results, execution_devices=[device]))
