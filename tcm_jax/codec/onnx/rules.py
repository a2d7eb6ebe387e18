"""The rules by which JAX's primitives become ONNX operators, by name, and what they share.

A rule takes the graph, an equation of a jaxpr and the values of its inputs; it gives one value or a list.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tcm_jax.codec.onnx.graph import Graph, Value, linear, same_shape

SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier")
RULES: dict[str, Callable[[Graph, Any, list[Value]], Any]] = {}
_LAYOUT = ("reshape", "transpose", "broadcast_in_dim", "squeeze")  # of parameters: as small and as exact as they are


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


def rule(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: `_name` is the rule for the primitive of that name."""
    RULES[function.__name__.removeprefix("_")] = function
    return function


def whole(graph: Graph, equation: Any, values: list[Value]) -> list[str]:
    """Names of all inputs, each in the shape of its variable."""
    return [graph.whole(v, variable.aval.shape) for v, variable in zip(values, equation.invars, strict=True)]


def result_shape(equation: Any) -> tuple[Any, ...]:
    """Shape of an equation's first result."""
    return equation.outvars[0].aval.shape


def integers(graph: Graph, values: Any) -> str:
    """A vector of int64 that the program holds."""
    return graph.constant(list(values), np.int64)
