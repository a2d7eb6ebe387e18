"""The work of a network: multiply-accumulates of its program, and what devices can do at most."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from tcm_jax.model import TCM, parameter_shapes
from tcm_jax.model_config import ModelConfig

# Dense bfloat16 FLOP/s of one device by JAX's `device_kind`, from the vendors' data sheets.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40": 181e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}


def peak_flops() -> float | None:
    """Peak FLOP/s of one of this machine's devices, if it is known."""
    kind = jax.devices()[0].device_kind
    return max(((name, peak) for name, peak in PEAK_FLOPS.items() if kind.startswith(name)), default=(None, None))[1]


def training_flops(config: ml_collections.ConfigDict) -> float:
    """FLOPs that training on one crop needs: two a multiply-accumulate, once forward and twice backward."""
    model = ModelConfig.from_dict(config.model.to_dict())
    picture = jax.ShapeDtypeStruct((1, config.data.crop, config.data.crop, 3), jnp.float32)
    program = jax.make_jaxpr(lambda params, x: TCM(model).apply({"params": params}, x)[0])
    return 6.0 * macs(program(parameter_shapes(model), picture).jaxpr)


def macs(jaxpr: Any) -> int:
    """Multiply-accumulates of all matrix products and convolutions of a jaxpr, loops counted as often as they run."""
    total = 0
    for eqn in jaxpr.eqns:
        out = np.prod(eqn.outvars[0].aval.shape) if eqn.outvars else 0
        if eqn.primitive.name == "dot_general":
            contracted = eqn.params["dimension_numbers"][0][0]
            total += out * np.prod([eqn.invars[0].aval.shape[i] for i in contracted])
        elif eqn.primitive.name == "conv_general_dilated":
            total += out * np.prod(eqn.invars[1].aval.shape[:3])
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        total += times * sum(macs(inner) for inner in _inner_programs(eqn))
    return int(total)


def _inner_programs(eqn: Any):
    for value in eqn.params.values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item
