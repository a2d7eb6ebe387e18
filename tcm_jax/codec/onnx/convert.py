"""A jaxpr as an ONNX model."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal

from tcm_jax.codec.jaxprs import function_of
from tcm_jax.codec.onnx import layout  # noqa: F401 - has rules
from tcm_jax.codec.onnx.arithmetic import FUNCTIONS
from tcm_jax.codec.onnx.graph import Graph, Value
from tcm_jax.codec.onnx.rules import RULES, SAME, folded


def convert(closed: Any, parameters: Sequence[np.ndarray], inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A closed jaxpr of `parameters`, then of `inputs`, to an ONNX model whose inputs are those that it uses.

    Raises NotImplementedError for a primitive or a size that no ONNX operator is known for.
    """
    graph = Graph()
    values = [Value.of(array, parameter=True) for array in parameters]
    for name, variable in zip(inputs, closed.jaxpr.invars[len(values) :], strict=True):
        shape = variable.aval.shape
        values.append(Value(shape, graph.input(name, shape, variable.aval.dtype)))
    results = zip(_run(graph, closed, values), closed.jaxpr.outvars, outputs, strict=True)
    return graph.model(
        [(graph.whole(value, out.aval.shape), name, out.aval.shape, out.aval.dtype) for value, out, name in results]
    )


def _run(graph: Graph, closed: Any, values: Sequence[Value]) -> list[Value]:
    """The results of a closed jaxpr of `values`."""
    jaxpr = closed.jaxpr
    constants = map(Value.of, closed.consts)
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *values), strict=True))

    def read(atom: Any) -> Value:
        if not isinstance(atom, Literal):
            return known[atom]
        kind: Any = atom.aval  # JAX's type for it has no dtype
        return Value.of(np.asarray(atom.val, kind.dtype))

    uses = Counter(id(atom) for atom in (*(atom for eqn in jaxpr.eqns for atom in eqn.invars), *jaxpr.outvars))
    for equation in jaxpr.eqns:
        results = _lowered(graph, equation, [read(variable) for variable in equation.invars])
        for value, variable in zip(results, equation.outvars, strict=True):
            if uses[id(variable)] != 1:
                graph.convolutions.pop(value.name, None)  # what is added to it is no bias of it
        known.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _lowered(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    name, inner = equation.primitive.name, function_of(equation)
    if inner is not None and (rule := FUNCTIONS.get(equation.params.get("name", ""))):
        return [rule(graph, equation, values)]
    if inner is not None:
        return _run(graph, inner, values)
    if name in SAME:
        return values
    if (known := folded(equation, values)) is not None:
        return known
    if name not in RULES:
        raise NotImplementedError(f"no ONNX operator is known for JAX's {name}")
    result = RULES[name](graph, equation, values)
    return result if isinstance(result, list) else [result]
