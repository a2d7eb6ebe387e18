"""Initial parameters, drawn by NumPy: compiling the network's own initializers takes minutes at real sizes."""

import math
import zlib
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from tcm_jax.entropy.factorized import INIT_SCALE, LAYERS
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.layers.gdn import GDN_PEDESTAL
from tcm_jax.model.tcm import flat_shapes


def abstract_params(config: ModelConfig) -> dict[str, Any]:
    """Shapes and dtypes of `init_params(config, seed)`."""
    flat = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in flat_shapes(config).items()}
    return unflatten_dict(flat, sep="/")


def init_params(config: ModelConfig, seed: int) -> dict[str, Any]:
    """Nested float32 NumPy parameters with the distributions of the network's own initializers.

    Every parameter has random numbers of its own, from `seed` and its name: the same on every machine and version.
    """
    flat = {}
    for name, shape in flat_shapes(config).items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        leaf = name.rpartition("/")[2]
        draw = _draw_prior if name.startswith("entropy_bottleneck/") else _draw
        flat[name] = np.broadcast_to(draw(leaf, shape, rng), shape).astype(np.float32)
    return unflatten_dict(flat, sep="/")


def _draw(leaf: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """A parameter of the transforms; the last axis of a kernel is its output."""
    match leaf:
        case "kernel":
            return rng.uniform(-1, 1, shape) / math.sqrt(math.prod(shape[:-1]))
        case "bias" | "log_gain":
            return 0
        case "scale":
            return 1
        case "relative_position_params":
            return 0.02 * _truncated_normal(shape, rng)
        case "beta":
            return math.sqrt(1 + GDN_PEDESTAL)
        case "gamma":
            return np.sqrt(0.1 * np.eye(shape[0]) + GDN_PEDESTAL)
    raise NotImplementedError(f"no initial values for parameters called {leaf!r}")


def _truncated_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Standard normal values, drawn anew beyond two deviations."""
    values = rng.standard_normal(shape)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(beyond.sum())
    return values


def _draw_prior(leaf: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """A parameter of the factorized prior: a distribution of about `INIT_SCALE` units around 0."""
    match leaf.partition("_")[0]:
        case "quantiles":
            return [-INIT_SCALE, 0, INIT_SCALE]
        case "matrices":
            return math.log(math.expm1(INIT_SCALE ** (-1 / LAYERS) / shape[1]))
        case "biases":
            return rng.uniform(-0.5, 0.5, shape)
        case "factors":
            return 0
    raise NotImplementedError(f"no initial values for parameters called {leaf!r}")
