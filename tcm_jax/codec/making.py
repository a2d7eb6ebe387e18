"""Programs traced, as steps or compiled by XLA: what needs JAX of programs.py."""

import contextlib
import itertools
import math
import pickle
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize
from jax.export import SymbolicScope, symbolic_shape

from tcm_jax.codec import trees
from tcm_jax.codec.steps import Steps
from tcm_jax.ops import compile_target
from tcm_jax.ops.kernels import handlers
from tcm_jax.system import cache
from tcm_jax.system.devices import pinned

_compiling = threading.Lock()


class Executable:
    """A compiled program as a function of parameters, of which it takes the leaves `used`, and grids."""

    def __init__(self, used: Sequence[int], program: Any):
        self.used, self.program = used, program

    def __call__(self, params: Any, *grids: Any) -> Any:
        with pinned():
            return self.program([params.leaves[i] for i in self.used], *grids)


def traced(
    function: Callable[..., Any],
    precise: bool,
    target: compile_target.Target,
    config: Any,
    structure: Any,
    static: tuple[int, ...],
) -> Callable[..., Any]:
    """What is made of a program's function for `target`: a function of the parameters' leaves and the grids."""

    def call(leaves, *grids):
        with compile_target.target(target), jax.default_matmul_precision("highest" if precise else None):
            return function(config, structure.unflatten(leaves), *static, *grids)

    return call


def steps(function: Callable[..., Any], call: Any, params: Any, path: Path | None) -> tuple[Steps, trees.Structure]:
    """The steps of a function for any size, and the structure of its results, kept at `path`, if there is one.

    `call` is of programs.py. Raises NotImplementedError for an operation that is no step.
    """
    scope = SymbolicScope()
    leaves = [
        jax.ShapeDtypeStruct(symbolic_shape(f"({', '.join(map(str, shape))},)", scope=scope), dtype)
        for shape, dtype in call.shapes
    ]
    grids = trees.unflatten(call.structure, leaves)
    with pinned():
        closed, results = jax.make_jaxpr(function, return_shape=True)(params.arrays, *grids)
    found = Steps(closed, len(params.arrays)), trees.flatten(results)[1]
    if path is not None:
        cache.write_quietly(path, zlib.compress(pickle.dumps(found)))
    return found


def executable(
    function: Callable[..., Any], call: Any, params: Any, path: Path | None, grids: tuple[Any, ...]
) -> Executable:
    """A function compiled by XLA for one size, that of `grids`, and kept at `path`, if there is one."""
    if call.target.kernels != "none":
        handlers.register()  # or XLA would not know the kernels
    with pinned():
        closed, result = jax.make_jaxpr(function, return_shape=True)(params.leaves, *grids)
        used, reduced = _reduced(closed, len(params.leaves), jax.tree.structure(result))
        lowered = jax.jit(reduced).lower([params.leaves[i] for i in used], *grids)
        if path is None:
            return Executable(used, lowered.compile())
        with _without_jax_cache():
            compiled = lowered.compile()
        try:
            data = zlib.compress(pickle.dumps((used, *serialize(compiled))))
            program = loaded(pickle.loads(zlib.decompress(data)), call)
            jax.block_until_ready(program(params, *grids))
        except Exception:  # a device whose programs cannot be kept
            return Executable(used, compiled)
    cache.write_quietly(path, data)
    return program


def loaded(kept: tuple[Any, ...], call: Any) -> Executable:
    """What `executable` kept."""
    if call.target.kernels != "none":
        handlers.register()
    used, program, arguments, results = kept
    with pinned():
        return Executable(used, deserialize_and_load(program, arguments, results, execution_devices=[call.device]))


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
