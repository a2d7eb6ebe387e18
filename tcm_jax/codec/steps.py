"""A traced program as steps of NumPy and of the kernels, for CPUs: nothing is traced or compiled for a size of picture.

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
from tcm_jax.codec.step_rules import Operation, broadcast, operation_of, reshape, sized
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
    """The steps of a closed jaxpr of some leaves of parameters, then of grids, for any sizes of these.

    Raises NotImplementedError where a primitive is no step.
    """

    def __init__(self, closed: Any, leaves: int):
        self.leaves, self.dtypes = leaves, [variable.aval.dtype for variable in closed.jaxpr.invars[leaves:]]
        trace = _Trace(leaves + len(self.dtypes))
        self.results = trace.add(closed, list(range(trace.slots)))
        self.slots, self.constants = trace.slots, trace.constants
        self.arranging, rest, names = _divided(_needed(trace.steps, self.results), leaves, trace.constants)
        used = {slot for step in rest for slot in step.inputs} | set(self.results)
        self.prepared = {slot: name for slot, name in names.items() if slot in used}  # what is done once
        self.steps = _with_last_uses(rest, {*self.constants, *self.prepared, *self.results})

    def at(self, h: int, w: int) -> "SizedSteps":
        """The steps for one size (formulas.py); any for grids whose sizes are fixed."""
        constants, steps = dict(self.constants), []
        for step in self.steps:
            operation = sized(step.operation, h, w)
            found = _folded(operation, step.inputs, constants)
            constants.update(zip(step.results, found, strict=False))
            if not found:
                steps.append(dataclasses.replace(step, operation=operation))
        used = {slot for step in steps for slot in step.inputs}.union(self.results)
        return SizedSteps(self, {slot: constants[slot] for slot in constants.keys() & used}, steps)


class SizedSteps:
    """The steps of a program for grids of one size."""

    def __init__(self, program: Steps, constants: dict[int, np.ndarray], steps: list[Step]):
        self._program, self._constants, self._steps = program, constants, steps

    def __call__(self, params: Any, grids: Sequence[Any]) -> list[np.ndarray]:
        """The results for `programs.Parameters` and grids: contiguous, not to be written to, maybe a grid's memory."""
        program = self._program
        values: list[Any] = [None] * program.slots
        for slot, value in self._constants.items():
            values[slot] = value
        with np.errstate(all="ignore"), direct.helped():  # whatever the host has set; XLA warns of nothing
            if any(name not in params.arranged for name in program.prepared.values()):
                self._arrange(params)
            for slot, name in program.prepared.items():
                values[slot] = params.arranged[name]
            for slot, (grid, dtype) in enumerate(zip(grids, program.dtypes, strict=True), program.leaves):
                values[slot] = np.asarray(grid, dtype)
            for step in self._steps:
                step.do(values)
        return [_read_only(values[slot]) for slot in program.results]

    def _arrange(self, params: Any) -> None:
        """Does the steps of parameters alone, and keeps what comes of them."""
        program = self._program
        values: list[Any] = [*params.arrays, *[None] * (program.slots - program.leaves)]
        for slot, value in program.constants.items():
            values[slot] = value
        for step in program.arranging:
            step.do(values)
        for slot, name in program.prepared.items():
            params.arranged[name] = np.asarray(values[slot], order="C")


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
            results = self._step(equation, slots) if inner is None else self.add(inner, slots)
            known.update(zip(equation.outvars, results, strict=True))
        return [slot_of(atom) for atom in jaxpr.outvars]

    def _step(self, equation: Any, inputs: list[int]) -> list[int]:
        """Appends a step; kernels and reshaping see no shape, and so take what was reshaped for them."""
        operation = operation_of(equation)
        if sized(operation, 1, 1) == operation and (found := _folded(operation, inputs, self.constants)):
            return [self._constant(value) for value in found]
        results = [self._slot() for _ in equation.outvars]
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


def _folded(operation: Operation, inputs: Sequence[int], constants: dict[int, np.ndarray]) -> list[np.ndarray]:
    """The results of an operation on constants, done here once; none on others, and none that are large."""
    function, settings = operation
    if function is direct.call or not constants.keys() >= {*inputs}:
        return []
    found = function(*[constants[slot] for slot in inputs], **settings)
    results = [np.asarray(value) for value in (found if isinstance(found, list) else [found])]
    return [value.copy() for value in results] if sum(value.size for value in results) <= _FOLDED else []


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
    if function is not broadcast:
        return False
    fixed = sized(step.operation, 1, 1) == step.operation
    return not fixed or math.prod(settings["shape"]) > _REPEATED * math.prod(settings["unit"])


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
