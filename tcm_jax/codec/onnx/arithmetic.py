"""Rules for primitives that compute."""

import functools
import math
from typing import Any

import jax
import numpy as np

from tcm_jax.codec.onnx.graph import Graph, Value, element_type, linear
from tcm_jax.codec.onnx.rules import RULES, integers, result_shape, rule, whole

_ELEMENTWISE = {
    "abs": "Abs", "and": "And", "div": "Div", "eq": "Equal", "erf": "Erf", "exp": "Exp", "floor": "Floor",
    "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less",
    "max": "Max", "min": "Min", "mul": "Mul", "neg": "Neg", "not": "Not", "or": "Or", "sign": "Sign", "sqrt": "Sqrt",
    "sub": "Sub", "tanh": "Tanh",
}  # fmt: skip


def _elementwise(kind: str, graph: Graph, equation: Any, values: list[Value]) -> Value:
    return Value(_broadcast(values), graph.op(kind, *(graph.name(value) for value in values)))


def _leaky_relu(graph: Graph, equation: Any, values: list[Value]) -> Value:
    x, slope = values
    if slope.array is None:
        raise NotImplementedError("a slope that is not known")
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


@rule
def _add(graph, equation, values):
    for value, bias in (values, values[::-1]):
        node = graph.convolutions.pop(value.name, None)
        if (
            node is not None
            and bias.array is not None
            and bias.array.shape[-1:] == (bias.array.size,) == value.shape[-1:]
        ):
            node.input.append(graph.constant(bias.array.reshape(-1)))
            return value
    return _elementwise("Add", graph, equation, values)


@rule
def _conv_general_dilated(graph, equation, values):
    """Convolution of maps NHWC with a kernel HWIO; a bias that is added to the result is put into the node."""
    params, x = equation.params, graph.whole(values[0], equation.invars[0].aval.shape)
    numbers = params["dimension_numbers"]
    layout = tuple(map(tuple, (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)))
    plain = all(set(params[key]) == {1} for key in ("lhs_dilation", "rhs_dilation"))
    plain = plain and params["batch_group_count"] == params["feature_group_count"] == 1
    if layout != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) or not plain or values[1].array is None:
        raise NotImplementedError("a convolution of another kind")
    kernel = graph.constant(values[1].array.transpose(3, 2, 0, 1))
    pads = [pair[end] for end in (0, 1) for pair in params["padding"]]
    planes = graph.op("Transpose", x, perm=[0, 3, 1, 2])
    convolved = graph.op("Conv", planes, kernel, strides=list(params["window_strides"]), pads=pads)
    node = graph.nodes[-1]
    result = graph.op("Transpose", convolved, perm=[0, 2, 3, 1])
    graph.convolutions[result] = node
    return Value(result_shape(equation), result)


@rule
def _dot_general(graph, equation, values):
    """Product as MatMul takes it: axes that both share come first, then one of sums; others beside it become one."""
    sums, shared = equation.params["dimension_numbers"]
    if len(sums[0]) != 1:
        raise NotImplementedError("sums over several axes")
    factors, split = [], False
    for side, (x, variable) in enumerate(zip(whole(graph, equation, values), equation.invars, strict=True)):
        shape = variable.aval.shape
        free = [axis for axis in range(len(shape)) if axis not in (*sums[side], *shared[side])]
        order = [*shared[side], *((*free, *sums[side]), (*sums[side], *free))[side]]
        x = x if order == sorted(order) else graph.op("Transpose", x, perm=order)
        if len(free) != 1 and (side or shared[0]):
            length, between = math.prod(_integer(shape[axis]) for axis in free), shape[sums[side][0]]
            sizes = [shape[axis] for axis in shared[side]]
            x = graph.op("Reshape", x, graph.shape(sizes + [[length, between], [between, length]][side]))
            split = True
        factors.append(x)
    product, shape = graph.op("MatMul", *factors), result_shape(equation)
    return Value(shape, graph.op("Reshape", product, graph.shape(shape)) if split else product)


def _integer(size: Any) -> int:
    if linear(size)[0]:
        raise NotImplementedError("a product of sizes that are not known")
    return int(size)


@rule
def _reduce_sum(graph, equation, values):
    return _reduced("ReduceSum", graph, equation, values)


@rule
def _reduce_max(graph, equation, values):
    return _reduced("ReduceMax", graph, equation, values)


def _reduced(kind: str, graph: Graph, equation: Any, values: list[Value]) -> Value:
    (x,) = whole(graph, equation, values)
    return Value(result_shape(equation), graph.op(kind, x, integers(graph, equation.params["axes"]), keepdims=0))


@rule
def _select_n(graph, equation, values):
    condition, false, true = values
    return Value(_broadcast(values), graph.op("Where", *(graph.name(value) for value in (condition, true, false))))


@rule
def _clamp(graph, equation, values):
    least, x, most = values
    return _elementwise("Min", graph, equation, [_elementwise("Max", graph, equation, [x, least]), most])


@rule
def _convert_element_type(graph, equation, values):
    to = element_type(equation.params["new_dtype"])
    return Value(values[0].shape, graph.op("Cast", graph.name(values[0]), to=to))


@rule
def _ne(graph, equation, values):
    return Value(_broadcast(values), graph.op("Not", _elementwise("Equal", graph, equation, values).name))


@rule
def _rem(graph, equation, values):
    return Value(_broadcast(values), graph.op("Mod", *(graph.name(value) for value in values), fmod=1))


@rule
def _square(graph, equation, values):
    return _elementwise("Mul", graph, equation, [values[0], values[0]])


@rule
def _integer_pow(graph, equation, values):
    if equation.params["y"] != 2:
        raise NotImplementedError(f"a power of {equation.params['y']}")
    return _square(graph, equation, values)


@rule
def _rsqrt(graph, equation, values):
    root = graph.op("Sqrt", graph.name(values[0]))
    return Value(values[0].shape, graph.op("Reciprocal", root))


@rule
def _log1p(graph, equation, values):
    one = Value.of(np.float32(1))
    return Value(values[0].shape, graph.op("Log", _elementwise("Add", graph, equation, [values[0], one]).name))


@rule
def _round(graph, equation, values):
    if equation.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise NotImplementedError("another way of rounding")
    return Value(values[0].shape, graph.op("Round", graph.name(values[0])))
