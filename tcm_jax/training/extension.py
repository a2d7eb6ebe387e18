"""A network that begins as a smaller one: further gain levels, and detail slices that the levels before go without."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tcm_jax import ops
from tcm_jax.model.config import LATENT_STRIDE, ModelConfig
from tcm_jax.model.detail import BLOCK_VALUES
from tcm_jax.model.klt import quantization_step
from tcm_jax.model.tcm import TCM

_AT_ONCE = 8  # crops
_ADDED = ("detail_channels", "detail_from", "detail_width", "checkerboard_width")


def is_extension(model: ModelConfig, of: ModelConfig) -> bool:
    """Whether `model` is the variable-rate network `of` with more levels and, over those, maybe detail slices."""
    if not 2 <= of.levels <= model.levels or of.detail_channels or of.checkerboard_width:
        return False
    detail = {name: getattr(model, name) for name in _ADDED}
    silent = not model.detail_channels or model.detail_from[0] >= of.levels - 1
    return silent and model == dataclasses.replace(of, levels=model.levels, **detail)


def extend(
    params: dict[str, Any], old: dict[str, Any], model: ModelConfig, lams: tuple[float, ...], crops: np.ndarray
) -> dict[str, Any]:
    """Nested parameters like `params`, of `model`, that code as `old`, nested too, at each of its levels.

    Gains go on beyond its last level as those of y do at high rates, with the root of lambda; detail slices are the
    Karhunen-Loeve transform of what `old` misses of `crops`, uint8 [B, H, W, 3] with sides that are multiples of 128,
    without quantization: the strongest channels first, with gains from the quantization step of each of `lams`.
    """
    flat, before = flatten_dict(params, sep="/"), flatten_dict(old, sep="/")
    gains = {name: _continued(table, lams) for name, table in before.items() if name.endswith("/log_gain")}
    flat |= before | gains
    for name in flat:
        if name.startswith("checkerboard") and "/layers_4/" in name:  # neither shift nor stretch
            flat[name] = np.zeros_like(flat[name])
    if model.detail_channels:
        flat |= _detail(flat, model, lams, missing_blocks(old, model, len(before["gain_y/log_gain"]), crops))
    return unflatten_dict(flat, sep="/")


def _continued(table: np.ndarray, lams: tuple[float, ...]) -> np.ndarray:
    """Logarithms of gains [levels, channels] for as many levels as there are `lams`."""
    known = len(table)
    slope = np.mean(table[-1] - table[-2]) / math.log(lams[known - 1] / lams[known - 2])
    beyond = [table[-1] + slope * math.log(lam / lams[known - 1]) for lam in lams[known:]]
    return np.concatenate([table, *(row[None] for row in beyond)]).astype(np.float32)


def missing_blocks(old: dict[str, Any], model: ModelConfig, levels: int, crops: np.ndarray) -> np.ndarray:
    """What the last of `levels` misses of blocks of the crops without quantization, float32 [blocks, 768]."""
    network = TCM(dataclasses.replace(model, levels=levels, detail_channels=0, detail_from=(), checkerboard_width=0))
    parts = [crops[at : at + _AT_ONCE] for at in range(0, len(crops), _AT_ONCE)]
    return np.concatenate([_missing(network, old, part, levels - 1.0) for part in parts]).reshape(-1, BLOCK_VALUES)


@functools.partial(jax.jit, static_argnums=0)
def _missing(network: TCM, params: dict[str, Any], pictures: jax.Array, level: float) -> jax.Array:
    x, levels = pictures.astype(jnp.float32) / 255, jnp.full(len(pictures), level)
    y = network.apply({"params": params}, x, levels, method="analysis")
    x_hat: Any = network.apply({"params": params}, y, levels, method="synthesis")
    return ops.pixel_unshuffle(x - x_hat, LATENT_STRIDE)


def _detail(
    flat: dict[str, np.ndarray], model: ModelConfig, lams: tuple[float, ...], blocks: np.ndarray
) -> dict[str, np.ndarray]:
    """Parameters of the detail slices."""
    variances, columns = np.linalg.eigh((blocks.T @ blocks).astype(np.float64) / len(blocks))  # weakest first
    basis = columns[:, ::-1][:, : model.detail_channels]
    deviations = np.sqrt(np.maximum(variances[::-1][: model.detail_channels], 1e-12))
    found = {
        "detail/forward_basis/kernel": basis,
        "detail/inverse_basis/kernel": basis.T,
    }
    log_gains = -np.log([quantization_step(lam) for lam in lams])[:, None]
    for i, part in enumerate(np.split(deviations, len(model.detail_from))):
        last = f"detail/scale_transforms_{i}/layers_4"
        found[f"{last}/kernel"] = np.zeros_like(flat[f"{last}/kernel"])
        found[f"{last}/bias"] = np.log(255 * part)
        for name, sign in (("gain", 1), ("inverse_gain", -1)):
            found[f"detail/{name}_{i}/log_gain"] = np.repeat(sign * log_gains, len(part), axis=1)
    return {name: value.astype(np.float32) for name, value in found.items()}
