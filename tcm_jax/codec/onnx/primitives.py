"""JAX's primitives, as far as the network uses them, as ONNX operators.

A rule takes the graph, an equation of a jaxpr and the values of its inputs; it gives one value or a list.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tcm_jax.codec.onnx.graph import Graph, Value, element_type, linear, same_shape

SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier")
RULES: dict[str, Callable[[Graph, Any, list[Value]], Any]] = {}
_LAYOUT = ("reshape", "transpose", "broadcast_in_dim", "squeeze")  # of parameters: as small and as exact as they are
_TO_END = np.iinfo(np.int64).max
_ELEMENTWISE = {
    "abs": "Abs", "and": "And", "div": "Div", "eq": "Equal", "erf": "Erf", "exp": "Exp", "floor": "Floor",
    "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less",
    "max": "Max", "min": "Min", "mul": "Mul", "neg": "Neg", "not": "Not", "or": "Or", "sign": "Sign", "sqrt": "Sqrt",
    "sub": "Sub", "tanh": "Tanh",
}  # fmt: skip


def folded(equation: Any, values: list[Value]) -> list[Value] | None:
    """The results of an equation of known arrays; None where they are not, or are parameters that would grow."""
    if any(value.array is None for value in values):
        return None
    shapes = [variable.aval.shape for variable in equation.outvars]
    if any(linear(side)[0] for shape in shapes for side in shape) or equation.primitive.name == "dim_as_value":
        return None
    parameter = any(value.parameter for value in values)
    if parameter and equation.primitive.name not in _LAYOUT:
        return None
    if not all(same_shape(v.shape, i.aval.shape) for v, i in zip(values, equation.invars, strict=True)):
        return None
    result = equation.primitive.bind(*(value.array for value in values), **equation.params)
    results = result if equation.primitive.multiple_results else [result]
    return [Value.of(array, parameter) for array in results]


def _rule(function: Callable[..., Any]) -> Callable[..., Any]:
    RULES[function.__name__.removeprefix("_")] = function
    return function


def _elementwise(kind: str, graph: Graph, equation: Any, values: list[Value]) -> Value:
    return Value(_broadcast(values), graph.op(kind, *(graph.name(value) for value in values)))


def _leaky_relu(graph: Graph, equation: Any, values: list[Value]) -> Value:
    x, slope = values
    return Value(x.shape, graph.op("LeakyRelu", graph.name(x), alpha=float(slope.array)))


FUNCTIONS = {"leaky_relu": _leaky_relu}  # jitted functions that have an operator, by name
RULES |= {name: functools.partial(_elementwise, kind) for name, kind in _ELEMENTWISE.items()}


def _broadcast(values: list[Value]) -> tuple[Any, ...]:
    """The shape of what comes of arithmetic: of each side the one that is not 1."""
    rank = max(len(value.shape) for value in values)
    shapes = [(1,) * (rank - len(value.shape)) + tuple(value.shape) for value in values]
    return tuple(next((side for side in sides if not _is_one(side)), 1) for sides in zip(*shapes, strict=True))


def _is_one(side: Any) -> bool:
    return linear(side) == (0, "", 1)


def _whole(graph: Graph, equation: Any, values: list[Value]) -> list[str]:
    """All inputs in the shapes of their variables."""
    return [graph.whole(v, variable.aval.shape) for v, variable in zip(values, equation.invars, strict=True)]


def _shape(equation: Any) -> tuple[Any, ...]:
    return equation.outvars[0].aval.shape


def _ints(graph: Graph, values: Any) -> str:
    return graph.constant(list(values), np.int64)


@_rule
def _add(graph, equation, values):
    for value, bias in (values, values[::-1]):
        node = graph.convolutions.pop(value.name, None)
        if node is not None and bias.array is not None and bias.array.size == value.shape[-1]:
            node.input.append(graph.constant(bias.array.reshape(-1)))
            return value
    return _elementwise("Add", graph, equation, values)


@_rule
def _conv_general_dilated(graph, equation, values):
    """Of maps NHWC and a kernel HWIO; a bias that is added to the result is put into the node."""
    params, x = equation.params, graph.whole(values[0], equation.invars[0].aval.shape)
    numbers = params["dimension_numbers"]
    layout = tuple(map(tuple, (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)))
    plain = (
        all(set(params[key]) == {1} for key in ("lhs_dilation", "rhs_dilation")) and params["batch_group_count"] == 1
    )
    if layout != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) or not plain or values[1].array is None:
        raise NotImplementedError("a convolution of another kind")
    kernel = graph.constant(values[1].array.transpose(3, 2, 0, 1))
    pads = [pair[end] for end in (0, 1) for pair in params["padding"]]
    planes = graph.op("Transpose", x, perm=[0, 3, 1, 2])
    convolved = graph.op("Conv", planes, kernel, strides=list(params["window_strides"]), pads=pads)
    node = graph.nodes[-1]
    result = graph.op("Transpose", convolved, perm=[0, 2, 3, 1])
    graph.convolutions[result] = node
    return Value(_shape(equation), result)


@_rule
def _dot_general(graph, equation, values):
    """As MatMul takes it: axes that both share first, then one of sums; others beside it as one."""
    sums, shared = equation.params["dimension_numbers"]
    if len(sums[0]) != 1:
        raise NotImplementedError("sums over several axes")
    factors, whole = [], True
    for side, (x, variable) in enumerate(zip(_whole(graph, equation, values), equation.invars, strict=True)):
        shape = variable.aval.shape
        free = [axis for axis in range(len(shape)) if axis not in (*sums[side], *shared[side])]
        order = [*shared[side], *((*free, *sums[side]), (*sums[side], *free))[side]]
        x = x if order == sorted(order) else graph.op("Transpose", x, perm=order)
        if len(free) != 1 and (side or shared[0]):
            length, between = math.prod(_integer(shape[axis]) for axis in free), shape[sums[side][0]]
            sizes = [shape[axis] for axis in shared[side]]
            x = graph.op("Reshape", x, graph.shape(sizes + [[length, between], [between, length]][side]))
            whole = False
        factors.append(x)
    product, shape = graph.op("MatMul", *factors), _shape(equation)
    return Value(shape, product if whole else graph.op("Reshape", product, graph.shape(shape)))


def _integer(size: Any) -> int:
    if linear(size)[0]:
        raise NotImplementedError("a product of sizes that are not known")
    return int(size)


@_rule
def _broadcast_in_dim(graph, equation, values):
    """A reshape alone: sides of 1 stay until something needs them."""
    (value, *_), places = values, equation.params["broadcast_dimensions"]
    shape = [1] * len(_shape(equation))
    for place, side in zip(places, value.shape, strict=True):
        shape[place] = side
    if len(shape) == len(value.shape):
        return value
    missing = [axis for axis in range(len(shape)) if axis not in places]
    if value.array is not None:
        array = np.expand_dims(value.array, missing)
        return Value(array.shape, array=array, parameter=value.parameter)
    return Value(tuple(shape), graph.op("Unsqueeze", value.name, _ints(graph, missing)))


@_rule
def _reshape(graph, equation, values):
    (x, *_), shape = _whole(graph, equation, values), _shape(equation)
    free = [axis for axis, side in enumerate(shape) if linear(side)[0]]
    given = [-1 if [axis] == free[-1:] else side for axis, side in enumerate(shape)]
    return Value(shape, graph.op("Reshape", x, graph.shape(given)))


@_rule
def _transpose(graph, equation, values):
    order = equation.params["permutation"]
    return Value(
        tuple(values[0].shape[i] for i in order), graph.op("Transpose", graph.name(values[0]), perm=list(order))
    )


@_rule
def _squeeze(graph, equation, values):
    (x,) = _whole(graph, equation, values)
    return Value(_shape(equation), graph.op("Squeeze", x, _ints(graph, equation.params["dimensions"])))


@_rule
def _concatenate(graph, equation, values):
    axis = int(equation.params["dimension"])
    return Value(_shape(equation), graph.op("Concat", *_whole(graph, equation, values), axis=axis))


@_rule
def _split(graph, equation, values):
    (x,), sizes = _whole(graph, equation, values), equation.params["sizes"]
    parts = graph.op("Split", x, _ints(graph, sizes), outputs=len(sizes), axis=int(equation.params["axis"]))
    return [Value(out.aval.shape, part) for out, part in zip(equation.outvars, parts, strict=True)]


@_rule
def _slice(graph, equation, values):
    params, (x,) = equation.params, _whole(graph, equation, values)
    sizes, starts, ends = equation.invars[0].aval.shape, params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(sizes)
    axes = [i for i, side in enumerate(sizes) if (str(starts[i]), str(ends[i]), steps[i]) != ("0", str(side), 1)]
    last = [_TO_END if str(ends[i]) == str(sizes[i]) else ends[i] for i in axes]
    return Value(_shape(equation), _cut(graph, x, axes, [starts[i] for i in axes], last, [steps[i] for i in axes]))


def _cut(graph: Graph, x: str, axes: list[int], starts: list[Any], ends: list[Any], steps: list[int]) -> str:
    return graph.op("Slice", x, graph.shape(starts), graph.shape(ends), _ints(graph, axes), _ints(graph, steps))


@_rule
def _gather(graph, equation, values):
    """Rows of one axis by their numbers, or one piece of one axis at a known place."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    x, index = _whole(graph, equation, values)
    shape, places = equation.invars[0].aval.shape, equation.invars[1].aval.shape
    cut = {i for i, side in enumerate(shape) if str(sizes[i]) != str(side)}
    axis = numbers.start_index_map[0]
    if len(numbers.start_index_map) != 1 or not cut <= {axis} or places[-1] != 1:
        raise NotImplementedError("a gather along several axes")
    if numbers.collapsed_slice_dims == (axis,) and (axis == 0 or len(places) == 1):
        row = graph.op("Squeeze", index, _ints(graph, [len(places) - 1]))
        return Value(_shape(equation), graph.op("Gather", x, row, axis=axis))
    if numbers.collapsed_slice_dims or len(places) != 1 or values[1].array is None:
        raise NotImplementedError("a gather of pieces")
    start = int(values[1].array[0])
    return Value(_shape(equation), _cut(graph, x, [axis], [start], [start + sizes[axis]], [1]))


@_rule
def _reduce_sum(graph, equation, values):
    return _reduced("ReduceSum", graph, equation, values)


@_rule
def _reduce_max(graph, equation, values):
    return _reduced("ReduceMax", graph, equation, values)


def _reduced(kind: str, graph: Graph, equation: Any, values: list[Value]) -> Value:
    (x,) = _whole(graph, equation, values)
    return Value(_shape(equation), graph.op(kind, x, _ints(graph, equation.params["axes"]), keepdims=0))


@_rule
def _select_n(graph, equation, values):
    condition, false, true = values
    return Value(_broadcast(values), graph.op("Where", *(graph.name(value) for value in (condition, true, false))))


@_rule
def _clamp(graph, equation, values):
    least, x, most = values
    return _elementwise("Min", graph, equation, [_elementwise("Max", graph, equation, [x, least]), most])


@_rule
def _convert_element_type(graph, equation, values):
    to = element_type(equation.params["new_dtype"])
    return Value(values[0].shape, graph.op("Cast", graph.name(values[0]), to=to))


@_rule
def _ne(graph, equation, values):
    return Value(_broadcast(values), graph.op("Not", _elementwise("Equal", graph, equation, values).name))


@_rule
def _rem(graph, equation, values):
    return Value(_broadcast(values), graph.op("Mod", *(graph.name(value) for value in values), fmod=1))


@_rule
def _square(graph, equation, values):
    return _elementwise("Mul", graph, equation, [values[0], values[0]])


@_rule
def _integer_pow(graph, equation, values):
    if equation.params["y"] != 2:
        raise NotImplementedError(f"a power of {equation.params['y']}")
    return _square(graph, equation, values)


@_rule
def _rsqrt(graph, equation, values):
    root = graph.op("Sqrt", graph.name(values[0]))
    return Value(values[0].shape, graph.op("Reciprocal", root))


@_rule
def _log1p(graph, equation, values):
    one = Value.of(np.float32(1))
    return Value(values[0].shape, graph.op("Log", _elementwise("Add", graph, equation, [values[0], one]).name))


@_rule
def _round(graph, equation, values):
    if equation.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise NotImplementedError("another way of rounding")
    return Value(values[0].shape, graph.op("Round", graph.name(values[0])))


@_rule
def _iota(graph, equation, values):
    shape = equation.params["shape"]
    if len(shape) != 1:
        raise NotImplementedError("a range of several axes")
    first, step = (graph.constant(number, np.int64) for number in (0, 1))
    counted = graph.op("Range", first, _scalar(graph, shape[0]), step)
    return Value(shape, graph.op("Cast", counted, to=element_type(equation.params["dtype"])))


@_rule
def _dim_as_value(graph, equation, values):
    to = element_type(equation.outvars[0].aval.dtype)
    return Value((), graph.op("Cast", _scalar(graph, equation.params["dim"]), to=to))


def _scalar(graph: Graph, size: Any) -> str:
    return graph.op("Squeeze", graph.size(size), _ints(graph, [0]))


@_rule
def _tile(graph, equation, values):
    if set(equation.params["reps"]) != {1}:
        raise NotImplementedError("repetitions")
    return values[0]
