"""Bytes that the operations of a training step read and write, counted in its program before any compiler sees it.

No device moves so many: compilers join operations. But networks of one kind are to each other as these bytes are.
"""

import functools
import importlib
import math
from typing import Any

import jax
import numpy as np

from tcm_jax import ops
from tcm_jax.model import complexity
from tcm_jax.training.start import abstract_state
from tcm_jax.training.step import make_step


@functools.cache
def step_bytes(name: str, crops: int) -> int:
    """Of a step of the configuration in bfloat16, as traced for a TPU."""
    config = importlib.import_module(f"configs.tcm_{name}").get_config()
    config.precision = "bfloat16"
    step = make_step(config)

    def traced(state, batch):
        with ops.target(ops.training_target("tpu")), ops.precision("float32"):
            return step(state, batch)

    batch = jax.ShapeDtypeStruct((crops, config.data.crop, config.data.crop, 3), np.uint8)
    return _bytes(jax.make_jaxpr(traced)(abstract_state(config), batch).jaxpr)


def _bytes(jaxpr: Any) -> int:
    """Of all operands and results; of an operation that holds programs, what those move."""
    total = 0
    for eqn in jaxpr.eqns:
        if programs := [*complexity.inner_programs(eqn)]:
            total += sum(map(_bytes, programs))
        else:
            total += sum(map(_size, (*eqn.invars, *eqn.outvars)))
    return total


def _size(variable: Any) -> int:
    dtype = getattr(variable.aval, "dtype", None)  # tokens have none, keys no size
    return math.prod(variable.aval.shape) * getattr(dtype, "itemsize", 0) if dtype else 0
