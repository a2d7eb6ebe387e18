"""What a network's symbols of y really are, for tables of the range coder that are fitted to them."""

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
        latents = model.apply({"params": params}, x, level=level, method="latents")
        return latents["symbols"], latents["scales"]

    counts, seen = np.zeros(shape, np.int64), 0
    for batch in batches:
        level = (seen + np.arange(len(batch))) % max(config.levels, 1)
        symbols, scales = map(np.asarray, coded(params, batch, level.astype(np.float32)))
        inside = np.abs(symbols) <= REACH
        places = build_indexes(scales)[inside], symbols[inside].astype(np.int64) + REACH
        counts += np.bincount(np.ravel_multi_index(places, shape), minlength=counts.size).reshape(shape)
        seen += len(batch)
    return counts
