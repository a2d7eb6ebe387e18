"""A traced program as steps of NumPy and of the kernels, for CPUs: nothing is compiled for a size of picture.

Every value has a slot: leaves of the parameters, then grids, constants and results of steps. Steps of parameters alone,
which arrange weights for the kernels, are done once: their results stay with the parameters, for all sizes.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tcm_jax.codec.jaxprs import function_of
from tcm_jax.codec.step_rules import Operation, broadcast, operation_of, reshape
from tcm_jax.ops.kernels import direct

_FOLDED = 1 << 14  # values of a constant's at most that is kept and not computed at each call
_REPEATED = 8  # times that arranged parameters are repeated at most; a Swin block has four sorts of windows


@dataclasses.dataclass(frozen=True)
class Step:
    """An operation on the values of some slots."""

    operation: Operation
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    last: tuple[int, ...] = ()  # slots whose values nobody needs afterwards

    def do(self, values: list[Any]) -> None:
        """Sets the values of the results."""
        function, settings = self.operation
        found = function(*[values[slot] for slot in self.inputs], **settings)
        if type(found) is list:
            for slot, value in zip(self.results, found, strict=True):
                values[slot] = value
        else:
            values[self.results[0]] = found
        for slot in self.last:
            values[slot] = None


class Steps:
    """The steps of a closed jaxpr of some leaves of parameters, then of grids.

    Raises NotImplementedError where a primitive is no step.
    """

    def __init__(self, closed: Any, leaves: int):
        self._leaves, self._dtypes = leaves, [variable.aval.dtype for variable in closed.jaxpr.invars[leaves:]]
        trace = _Trace(leaves + len(self._dtypes))
        self._results = trace.add(closed, list(range(trace.slots)))
        self._slots, self._constants = trace.slots, trace.constants
        self._arranging, rest, names = _divided(_needed(trace.steps, self._results), leaves, trace.constants)
        used = {slot for step in rest for slot in step.inputs} | set(self._results)
        self._prepared = {slot: name for slot, name in names.items() if slot in used}  # what is done once
        self._steps = _with_last_uses(rest, {*self._constants, *self._prepared, *self._results})

    def __call__(self, params: Any, grids: Sequence[Any]) -> list[np.ndarray]:
        """The results for `programs.Parameters` and grids: contiguous, not to be written to, maybe a grid's memory."""
        values: list[Any] = [None] * self._slots
        for slot, value in self._constants.items():
            values[slot] = value
        with np.errstate(all="ignore"), direct.helped():  # whatever the host has set; XLA warns of nothing
            if any(name not in params.arranged for name in self._prepared.values()):
                self._arrange(params, values)
            for slot, name in self._prepared.items():
                values[slot] = params.arranged[name]
            for slot, (grid, dtype) in enumerate(zip(grids, self._dtypes, strict=True), self._leaves):
                values[slot] = np.asarray(grid, dtype)
            for step in self._steps:
                step.do(values)
        return [_read_only(values[slot]) for slot in self._results]

    def _arrange(self, params: Any, values: list[Any]) -> None:
        """Does the steps of parameters alone, and keeps what comes of them."""
        values[: self._leaves] = params.arrays
        for step in self._arranging:
            step.do(values)
        for slot, name in self._prepared.items():
            params.arranged[name] = np.asarray(values[slot], order="C")
        values[: self._leaves] = [None] * self._leaves


class _Trace:
    """Steps and constants of jaxprs, one after the other; the first `slots` are those of inputs."""

    def __init__(self, slots: int):
        self.slots = slots
        self.constants: dict[int, np.ndarray] = {}
        self.steps: list[Step] = []
        self._reshaped: dict[int, int] = {}  # slots of what was reshaped: what it was

    def add(self, closed: Any, inputs: list[int]) -> list[int]:
        """Appends a closed jaxpr of the values of some slots; returns the slots of its results."""
        jaxpr = closed.jaxpr
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= dict(zip(jaxpr.constvars, map(self._constant, closed.consts), strict=True))

        def slot_of(atom: Any) -> int:  # of a variable, or of a literal, which has a value
            return self._constant(np.asarray(atom.val, atom.aval.dtype)) if hasattr(atom, "val") else known[atom]

        for equation in jaxpr.eqns:
            slots, inner = [slot_of(atom) for atom in equation.invars], function_of(equation)
            if inner is not None:
                results = self.add(inner, slots)
            else:
                results = self._folded(equation, slots) or self._step(equation, slots)
            known.update(zip(equation.outvars, results, strict=True))
        return [slot_of(atom) for atom in jaxpr.outvars]

    def _folded(self, equation: Any, inputs: list[int]) -> list[int]:
        """The slots of results that are constants, done here once; none for others, and for large ones."""
        function, settings = operation_of(equation)
        size = sum(math.prod(variable.aval.shape) for variable in equation.outvars)
        if function is direct.call or size > _FOLDED or not self.constants.keys() >= {*inputs}:
            return []
        found = function(*[self.constants[slot] for slot in inputs], **settings)
        return [self._constant(np.array(value)) for value in (found if isinstance(found, list) else [found])]

    def _step(self, equation: Any, inputs: list[int]) -> list[int]:
        """Appends a step; kernels and reshaping see no shape, and so take what was reshaped for them."""
        operation, results = operation_of(equation), [self._slot() for _ in equation.outvars]
        if operation[0] in (reshape, direct.call):
            inputs = [self._reshaped.get(slot, slot) for slot in inputs]
        if operation[0] is reshape:
            self._reshaped[results[0]] = inputs[0]
        self.steps.append(Step(operation, tuple(inputs), tuple(results)))
        return results

    def _slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def _constant(self, value: Any) -> int:
        slot = self._slot()
        self.constants[slot] = np.asarray(value)
        return slot


def _divided(
    steps: list[Step], leaves: int, constants: dict[int, np.ndarray]
) -> tuple[list[Step], list[Step], dict[int, str]]:
    """(the steps of parameters alone, the others, names that say what the slots of parameters and the former hold)."""
    names = {slot: f"leaf {slot}" for slot in range(leaves)}
    said_of = {slot: f"{x.dtype} {x.shape} {x.tobytes().hex()}" for slot, x in constants.items()}
    arranging: list[Step] = []
    rest: list[Step] = []
    for step in steps:
        said = [names.get(slot) or said_of.get(slot) for slot in step.inputs]
        of_parameters = any(slot in names for slot in step.inputs) and None not in said
        if not of_parameters or _spreads(step):
            rest.append(step)
            continue
        arranging.append(step)
        function, settings = step.operation
        digest = hashlib.sha256(f"{function.__name__} {settings} {said}".encode()).hexdigest()
        names |= {slot: f"{digest} {i}" for i, slot in enumerate(step.results)}
    return arranging, rest, names


def _needed(steps: list[Step], results: list[int]) -> list[Step]:
    """The steps of which something is used."""
    found, used = [], set(results)
    for step in reversed(steps):
        if not used.isdisjoint(step.results):
            used |= {*step.inputs}
            found.append(step)
    return found[::-1]


def _spreads(step: Step) -> bool:
    """Whether a step repeats parameters over a map: its result is a view, which is not to be kept for each size."""
    function, settings = step.operation
    return function is broadcast and math.prod(settings["shape"]) > _REPEATED * math.prod(settings["unit"])


def _with_last_uses(steps: list[Step], kept: set[int]) -> list[Step]:
    """The steps, each with the slots that it uses last; values of those `kept` stay."""
    found, seen = [], set(kept)
    for step in reversed(steps):
        last = {*step.inputs, *step.results} - seen
        seen |= last
        found.append(dataclasses.replace(step, last=tuple(last)))
    return found[::-1]


def _read_only(value: np.ndarray) -> np.ndarray:
    value = np.asarray(value, order="C").view()
    value.flags.writeable = False
    return value
