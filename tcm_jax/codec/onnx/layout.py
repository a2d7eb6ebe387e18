"""Rules for primitives that move values and compute none."""

from typing import Any

import numpy as np

from tcm_jax.codec.onnx.graph import Graph, Value, element_type, linear
from tcm_jax.codec.onnx.rules import integers, result_shape, rule, whole

_TO_END = np.iinfo(np.int64).max


@rule
def _broadcast_in_dim(graph, equation, values):
    """A reshape alone: sides of 1 stay until something needs them."""
    (value, *_), places = values, equation.params["broadcast_dimensions"]
    shape = [1] * len(result_shape(equation))
    for place, side in zip(places, value.shape, strict=True):
        shape[place] = side
    if len(shape) == len(value.shape):
        return value
    missing = [axis for axis in range(len(shape)) if axis not in places]
    if value.array is not None:
        array = np.expand_dims(value.array, missing)
        return Value(array.shape, array=array, parameter=value.parameter)
    return Value(tuple(shape), graph.op("Unsqueeze", value.name, integers(graph, missing)))


@rule
def _reshape(graph, equation, values):
    (x, *_), shape = whole(graph, equation, values), result_shape(equation)
    free = [axis for axis, side in enumerate(shape) if linear(side)[0]]
    given = [-1 if [axis] == free[-1:] else side for axis, side in enumerate(shape)]
    return Value(shape, graph.op("Reshape", x, graph.shape(given)))


@rule
def _transpose(graph, equation, values):
    order = equation.params["permutation"]
    return Value(
        tuple(values[0].shape[i] for i in order), graph.op("Transpose", graph.name(values[0]), perm=list(order))
    )


@rule
def _squeeze(graph, equation, values):
    (x,) = whole(graph, equation, values)
    return Value(result_shape(equation), graph.op("Squeeze", x, integers(graph, equation.params["dimensions"])))


@rule
def _concatenate(graph, equation, values):
    axis = int(equation.params["dimension"])
    return Value(result_shape(equation), graph.op("Concat", *whole(graph, equation, values), axis=axis))


@rule
def _split(graph, equation, values):
    (x,), sizes = whole(graph, equation, values), equation.params["sizes"]
    parts = graph.op("Split", x, integers(graph, sizes), outputs=len(sizes), axis=int(equation.params["axis"]))
    return [Value(out.aval.shape, part) for out, part in zip(equation.outvars, parts, strict=True)]


@rule
def _slice(graph, equation, values):
    params, (x,) = equation.params, whole(graph, equation, values)
    sizes, starts, ends = equation.invars[0].aval.shape, params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(sizes)
    axes = [i for i, side in enumerate(sizes) if (str(starts[i]), str(ends[i]), steps[i]) != ("0", str(side), 1)]
    last = [_TO_END if str(ends[i]) == str(sizes[i]) else ends[i] for i in axes]
    return Value(
        result_shape(equation), _cut(graph, x, axes, [starts[i] for i in axes], last, [steps[i] for i in axes])
    )


def _cut(graph: Graph, x: str, axes: list[int], starts: list[Any], ends: list[Any], steps: list[int]) -> str:
    return graph.op("Slice", x, graph.shape(starts), graph.shape(ends), integers(graph, axes), integers(graph, steps))


@rule
def _gather(graph, equation, values):
    """Rows of one axis by their numbers, or one piece of one axis at a known place."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    x, index = whole(graph, equation, values)
    shape, places = equation.invars[0].aval.shape, equation.invars[1].aval.shape
    cut = {i for i, side in enumerate(shape) if str(sizes[i]) != str(side)}
    axis = numbers.start_index_map[0]
    if len(numbers.start_index_map) != 1 or not cut <= {axis} or places[-1] != 1:
        raise NotImplementedError("a gather along several axes")
    if numbers.collapsed_slice_dims == (axis,) and (axis == 0 or len(places) == 1):
        row = graph.op("Squeeze", index, integers(graph, [len(places) - 1]))
        return Value(result_shape(equation), graph.op("Gather", x, row, axis=axis))
    if numbers.collapsed_slice_dims or len(places) != 1 or values[1].array is None:
        raise NotImplementedError("a gather of pieces")
    start = int(values[1].array[0])
    return Value(result_shape(equation), _cut(graph, x, [axis], [start], [start + sizes[axis]], [1]))


@rule
def _iota(graph, equation, values):
    shape = equation.params["shape"]
    if len(shape) != 1:
        raise NotImplementedError("a range of several axes")
    first, step = (graph.constant(number, np.int64) for number in (0, 1))
    counted = graph.op("Range", first, _scalar(graph, shape[0]), step)
    return Value(shape, graph.op("Cast", counted, to=element_type(equation.params["dtype"])))


@rule
def _dim_as_value(graph, equation, values):
    to = element_type(equation.outvars[0].aval.dtype)
    return Value((), graph.op("Cast", _scalar(graph, equation.params["dim"]), to=to))


def _scalar(graph: Graph, size: Any) -> str:
    return graph.op("Squeeze", graph.size(size), integers(graph, [0]))


@rule
def _tile(graph, equation, values):
    if set(equation.params["reps"]) != {1}:
        raise NotImplementedError("repetitions")
    return values[0]
