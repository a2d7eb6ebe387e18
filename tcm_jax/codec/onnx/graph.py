"""An ONNX graph as it is built: nodes, initializers, and sizes that are known when the program runs.

Shapes hold integers and JAX's symbolic sizes, multiples of `h` and `w`.
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tcm_jax.system.extras import require_extra

OPSET, IR_VERSION = 18, 8  # of ai.onnx, old enough for every runtime of today
_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9, "float16": 10}  # TensorProto.DataType
_SIZE = re.compile(r"(?:(\d+)\*)?([hw])(?: ([+-]) (\d+))?")


def linear(size: Any) -> tuple[int, str, int]:
    """A size as (factor, "h" or "w", what is added), and factor 0 for an integer."""
    if isinstance(size, int | np.integer):
        return 0, "", int(size)
    match = _SIZE.fullmatch(str(size))
    if match is None:
        raise NotImplementedError(f"a size that is no multiple of h or w: {size}")
    factor, name, sign, added = match.groups()
    return int(factor or 1), name, int(f"{sign or ''}{added or 0}")


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are equal."""
    return list(map(linear, a)) == list(map(linear, b))


@dataclasses.dataclass(frozen=True)
class Value:
    """What a variable of a jaxpr is: the name of a value of the graph, or an array, maybe of the `parameters`.

    `shape` is that of the value: some sides may be 1 where the variable's are larger, as ONNX's arithmetic broadcasts.
    """

    shape: tuple[Any, ...]
    name: str = ""
    array: np.ndarray | None = None
    parameter: bool = False

    @classmethod
    def of(cls, array: Any, parameter: bool = False) -> "Value":
        """The value that stands for an array."""
        return cls(np.shape(array), array=np.asarray(array), parameter=parameter)


class Graph:
    """Nodes in order; their inputs and outputs are names. Raises MissingExtraError where onnx is not installed."""

    def __init__(self):
        with require_extra("onnx", "ONNX programs need onnx"):
            import onnx.helper
            import onnx.numpy_helper
        self._helper, self._numpy_helper = onnx.helper, onnx.numpy_helper
        self.nodes: list[Any] = []
        self._casts: list[Any] = []  # before all others
        self._numbers = itertools.count()
        self.convolutions: dict[str, Any] = {}  # without a bias, by their results in NHWC
        self._initializers: dict[str, Any] = {}
        self._constants: dict[Any, str] = {}
        self._sizes: dict[Any, str] = {}
        self._inputs: list[tuple[str, Any, tuple[Any, ...]]] = []

    def input(self, name: str, shape: tuple[Any, ...], dtype: Any) -> str:
        """Adds an input to the program; returns its name."""
        self._inputs.append((name, np.dtype(dtype), shape))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or of each of several `outputs`."""
        names = [f"{kind}_{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(self._helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = None) -> str:
        """An array that the program holds; if float16 holds it exactly, as that and cast to float32."""
        array = np.asarray(value, dtype)
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._constants:
            with np.errstate(over="ignore"):
                half = array.astype(np.float16) if array.dtype == np.float32 and array.size > 1 else None
            halves = half is not None and np.array_equal(half, array)
            name = f"constant_{len(self._constants)}"
            stored = np.ascontiguousarray(half if halves else array)
            self._initializers[name] = self._numpy_helper.from_array(stored, name)
            self._constants[key] = f"{name}_float" if halves else name
            if halves:
                to = element_type(np.float32)
                self._casts.append(self._helper.make_node("Cast", [name], [f"{name}_float"], to=to))
        return self._constants[key]

    def name(self, value: Value) -> str:
        """Name of the value in the graph, as small as it is."""
        return value.name if value.array is None else self.constant(value.array)

    def whole(self, value: Value, shape: tuple[Any, ...]) -> str:
        """Name of the value in the graph, in its variable's `shape`."""
        small = same_shape(value.shape, shape)
        return self.name(value) if small else self.op("Expand", self.name(value), self.shape(shape))

    def size(self, size: Any) -> str:
        """Name of a size as int64 [1]."""
        factor, name, added = linear(size)
        if not factor:
            return self.constant([added], np.int64)
        key = factor, name, added
        if key not in self._sizes:
            value = self._unit(name)
            value = value if factor == 1 else self.op("Mul", value, self.constant([factor], np.int64))
            self._sizes[key] = self.op("Add", value, self.constant([added], np.int64)) if added else value
        return self._sizes[key]

    def _unit(self, name: str) -> str:
        """`h` or `w`, from the first input that has such a side."""
        if name not in self._sizes:
            sides = (
                (source, axis, linear(side)) for source, _, shape in self._inputs for axis, side in enumerate(shape)
            )
            source, axis, factor = next((s, axis, factor) for s, axis, (factor, of, _) in sides if of == name)
            found = self.op("Shape", source, start=axis, end=axis + 1)
            self._sizes[name] = found if factor == 1 else self.op("Div", found, self.constant([factor], np.int64))
        return self._sizes[name]

    def shape(self, sizes: Sequence[Any]) -> str:
        """Name of sizes as one int64 vector."""
        parts = [linear(size) for size in sizes]
        if not any(factor for factor, _, _ in parts):
            return self.constant([added for _, _, added in parts], np.int64)
        return self.op("Concat", *(self.size(size) for size in sizes), axis=0)

    def model(self, outputs: Sequence[tuple[str, str, tuple[Any, ...], Any]]) -> Any:
        """The finished program; `outputs` are (value, name, shape, dtype). Inputs that nothing uses are left out."""
        named = [self._helper.make_node("Identity", [value], [name]) for value, name, _, _ in outputs]
        nodes = [*self._casts, *self.nodes, *named]
        used = {name for node in nodes for name in node.input}
        sources = [self._declared(name, dtype, shape) for name, dtype, shape in self._inputs if name in used]
        kept = [tensor for name, tensor in self._initializers.items() if name in used]
        results = [self._declared(name, dtype, shape) for _, name, shape, dtype in outputs]
        graph = self._helper.make_graph(nodes, "program", sources, results, kept)
        opset = [self._helper.make_opsetid("", OPSET)]
        return self._helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="tcm_jax")

    def _declared(self, name: str, dtype: Any, shape: tuple[Any, ...]) -> Any:
        sizes = [int(size) if isinstance(size, int | np.integer) else str(size) for size in shape]
        return self._helper.make_tensor_value_info(name, element_type(dtype), sizes)


def element_type(dtype: Any) -> int:
    """ONNX's number of a NumPy dtype."""
    return _ELEMENT_TYPES[np.dtype(dtype).name]
