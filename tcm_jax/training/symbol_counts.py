"""What a network's symbols of y really are, for tables of the range coder that are fitted to them."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.entropy.tables import REACH, build_indexes, scale_table
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.tcm import TCM


def symbol_counts(config: ModelConfig, params: dict[str, Any], batches: Iterable[np.ndarray]) -> np.ndarray:
    """How often each symbol -REACH ... REACH is coded with each of the 64 tables: int64 [64, 2 * REACH + 1].

    `batches` are uint8 [B, H, W, 3] with sides that are multiples of 128. A variable-rate network codes one picture
    after the other with one of its levels after the other.
    """
    model, shape = TCM(config), (len(scale_table()), 2 * REACH + 1)

    @jax.jit
    def coded(params, pictures, level):
        x = pictures.astype(jnp.float32) / 255
        if not config.detail_channels:
            latents: Any = model.apply({"params": params}, x, level=level, method="latents")
            return [(latents["symbols"], latents["scales"])]
        _, latents = model.apply({"params": params}, x, level=level)
        return [(latents[f"{kind}symbols"], latents[f"{kind}scales"]) for kind in ("", "detail_")]

    counts, seen = np.zeros(shape, np.int64), 0
    for batch in batches:
        level = (seen + np.arange(len(batch))) % max(config.levels, 1)
        maps = [tuple(map(np.asarray, pair)) for pair in coded(params, batch, level.astype(np.float32))]
        for i, at in enumerate(level.tolist()):
            channels = config.latent_channels, config.detail_slices(at) * config.detail_slice_channels
            for (symbols, scales), used in zip(maps, channels, strict=False):
                counts += _counted(symbols[i, ..., :used], scales[i, ..., :used], shape)
        seen += len(batch)
    return counts


def _counted(symbols: np.ndarray, scales: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    inside = np.abs(symbols) <= REACH
    places = build_indexes(scales)[inside], symbols[inside].astype(np.int64) + REACH
    return np.bincount(np.ravel_multi_index(places, shape), minlength=math.prod(shape)).reshape(shape)
