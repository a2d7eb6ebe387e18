"""The codec's programs, made once and kept between processes (system/program_cache.py says where).

On a CPU with kernels a program is a list of steps (steps.py) for every size of picture; elsewhere XLA compiles one for
each (making.py). They are kept under names that are known without tracing, so that a process that finds its programs
imports neither Flax nor, for steps, JAX.
"""

import contextlib
import dataclasses
import functools
import pickle
import time
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tcm_jax.codec import formulas, trees
from tcm_jax.codec.steps import SizedSteps, Steps
from tcm_jax.ops.compile_target import Target, codec_target
from tcm_jax.system import cache
from tcm_jax.system.devices import default_device, only_this_cpu, pinned
from tcm_jax.system.locks import make_lock
from tcm_jax.system.program_cache import kept

if TYPE_CHECKING:
    import jax

    from tcm_jax.codec.making import Executable

_SIZES = 64  # held by a program, those of each slice and configuration counted apart; another takes milliseconds
on_made: list[Callable[[float], None]] = []  # are told the seconds that it took to make or load a program


class Parameters:
    """Nested parameters on one device, taken apart once: it takes as long as to call a small program."""

    def __init__(self, tree: Any, device: "jax.Device | None" = None):
        self._tree = tree
        if device is not None or not only_this_cpu():
            # Named, so that they stay there: a host's default may be another at the next call.
            self.device = device or default_device()
        self.arranged: dict[str, np.ndarray] = {}  # for the kernels, by `SizedSteps`

    @functools.cached_property
    def device(self) -> "jax.Device":
        """Where programs run that XLA compiles."""
        with pinned():
            return default_device()

    @property
    def platform(self) -> str:
        """The device's platform, as JAX names it; JAX is not asked where there is but this CPU."""
        device = vars(self).get("device")
        return "cpu" if device is None else device.platform

    @functools.cached_property
    def tree(self) -> Any:
        """The parameters on the device."""
        import jax

        with pinned():
            return jax.device_put(self._tree, self.device)

    @property
    def structure(self) -> Any:
        """The structure of `tree`, as JAX has it."""
        import jax

        return jax.tree.structure(self._tree)

    @functools.cached_property
    def leaves(self) -> "list[jax.Array]":
        """The leaves of `tree`, in JAX's order."""
        return trees.flatten(self.tree)[0]

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """The leaves for NumPy."""
        return [np.asarray(leaf) for leaf in trees.flatten(self._tree)[0]]


class Stepwise:
    """Steps as a function of parameters and grids, with results of this structure."""

    def __init__(self, steps: SizedSteps, structure: trees.Structure):
        self.steps, self.structure = steps, structure

    def __call__(self, params: Parameters, *grids: Any) -> Any:
        return trees.unflatten(self.structure, self.steps(params, trees.flatten(grids)[0]))


@dataclasses.dataclass(frozen=True)
class Call:
    """What a program depends on beside its function."""

    config: Any
    target: Target
    static: tuple[int, ...]
    structure: trees.Structure  # of the grids
    shapes: tuple[tuple[tuple[Any, ...], str], ...]  # of their leaves, with dtypes; for any size they are formulas
    device: "jax.Device | None" = None  # of what XLA compiles

    def __str__(self) -> str:
        device = self.device and f"{self.device.client.platform_version} {self.device.device_kind} {self.device.id}"
        return f"{self.config.to_json()} {device} {self.target} {self.static} {self.structure} {self.shapes}"


class Program:
    """A function of a configuration, its parameters, maybe a number, and grids.

    The configuration and Python integers are static. `strides` are those of the other arguments, in pixels a position;
    0: what is no grid [h, w, channels], and has the same shape for every picture. Without them XLA compiles a program
    for each shape. `precise` is for what encoder and decoder must agree on: matrix products in full float32, the same
    for any number of threads. `target` says, of a platform, what is traced for: the codec's kernels have no gradients.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        strides: Sequence[int] | None = None,
        precise: bool = False,
        target: Callable[[str], Target] = codec_target,
    ):
        self.function, self.strides, self.precise, self.target = function, strides, precise, target
        self._made: dict[Call, Any] = {}  # Executables; for any size Steps and the results' structure
        self._stepwise: dict[Any, Stepwise] = {}
        self._lock = make_lock()

    def __len__(self) -> int:
        """Programs made or loaded so far; steps count once for all sizes."""
        return len(self._made)

    def __call__(self, config: Any, params: Parameters, *args: Any) -> Any:
        return self.executable(config, params, *args)(params, *_grids(args))

    def executable(self, config: Any, params: Parameters, *args: Any) -> "Stepwise | Executable":
        """What a call with these arguments runs."""
        static, grids, target = tuple(x for x in args if isinstance(x, int)), _grids(args), self.target(params.platform)
        leaves, structure = trees.flatten(grids)
        with self._lock:  # one thread makes it, the others wait for it
            if self.strides is not None and target.kernels == "codec":
                shapes, sides = self._shapes_of_any_size(grids)
                call = Call(config, target, static, structure, shapes)
                return self._of_size(call, sides, *self._found(call, params, grids))
            shapes = tuple(map(_shape, leaves))
            return self._found(Call(config, target, static, structure, shapes, params.device), params, grids)

    def _of_size(self, call: Call, sides: tuple[int, int], steps: Steps, structure: trees.Structure) -> Stepwise:
        found = self._stepwise.pop((call, sides), None) or Stepwise(steps.at(*sides), structure)
        self._stepwise[call, sides] = found  # the last one
        if len(self._stepwise) > _SIZES:
            del self._stepwise[next(iter(self._stepwise))]
        return found

    def traced(self, target: Target, config: Any, structure: Any, static: tuple[int, ...]) -> Callable[..., Any]:
        """What is made for `target`: a function of the parameters' leaves and the grids; JAX knows the `structure`."""
        from tcm_jax.codec import making

        return making.traced(self.function, self.precise, target, config, structure, static)

    def _found(self, call: Call, params: Parameters, grids: tuple[Any, ...]) -> Any:
        """What a call runs: made before, kept by another process, or made now."""
        if call not in self._made:
            start = time.perf_counter()
            self._made[call] = self._new(call, params, grids)
            for tell in on_made:
                tell(time.perf_counter() - start)
        return self._made[call]

    def _new(self, call: Call, params: Parameters, grids: tuple[Any, ...]) -> Any:
        path = kept(f"{self.function.__name__} {call}", by_xla=call.device is not None)
        if path is not None and (data := cache.read(path)):
            with contextlib.suppress(Exception):  # damaged
                return _loaded(data, call)
        from tcm_jax.codec import making  # imports JAX

        function = self.traced(call.target, call.config, params.structure, call.static)
        if call.device is None:
            return making.steps(function, call, params, path)
        return making.executable(function, call, params, path, grids)

    def _shapes_of_any_size(self, grids: tuple[Any, ...]) -> tuple[Any, tuple[int, int]]:
        """(shapes and dtypes of the leaves for any size of picture, the sides of this one)."""
        shapes, sides = [], set()
        for argument, stride in zip(grids, self.strides or (), strict=True):
            for leaf in trees.flatten(argument)[0]:
                shape, dtype = _shape(leaf)
                if stride:
                    sides.add(formulas.sides_of(shape, stride))
                    shape = formulas.shape_of_any_size(shape, stride)
                shapes.append((shape, dtype))
        if len(sides) > 1:
            raise ValueError(f"the grids of {self.function.__name__} are of pictures of several sizes: {sorted(sides)}")
        return tuple(shapes), sides.pop() if sides else (0, 0)


def _shape(leaf: Any) -> tuple[tuple[Any, ...], str]:
    return tuple(np.shape(leaf)), str(leaf.dtype)


def _grids(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg for arg in args if not isinstance(arg, int))


def _loaded(data: bytes, call: Call) -> Any:
    """A kept program. Like all of the cache folder, it is trusted: machine code is in it."""
    found = pickle.loads(zlib.decompress(data))
    if call.device is None:
        return found
    from tcm_jax.codec import making

    return making.loaded(found, call)
