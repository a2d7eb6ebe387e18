"""The work of training, and what devices can do at most."""

import jax
import ml_collections

from tcm_jax.model import complexity
from tcm_jax.training.config import model_config

# Dense bfloat16 FLOP/s of one device by how JAX's `device_kind` begins, from the vendors' data sheets.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40": 181e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5": 459e12,  # v5p, which JAX calls by either name
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


def peak_flops() -> float | None:
    """Peak FLOP/s of one of this machine's devices, if it is known."""
    kind = jax.devices()[0].device_kind
    return max(((name, peak) for name, peak in PEAK_FLOPS.items() if kind.startswith(name)), default=(None, None))[1]


def training_flops(config: ml_collections.ConfigDict) -> float:
    """FLOPs that training on one crop needs: two a multiply-accumulate, once forward and twice backward."""
    crop = config.data.crop
    parts = complexity.macs(model_config(config), crop, crop)
    return 6.0 * sum(part.total for part in parts.values())
