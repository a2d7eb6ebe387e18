"""Spatial context inside slices: a checkerboard's black fields first, then its white ones, which see their neighbours.

He et al., Checkerboard Context Model for Efficient Learned Image Compression (CVPR 2021); here as a correction of the
means and scales that a slice has without it, so that a network begins as it was.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax import ops
from tcm_jax.entropy.gaussian import SCALE_MIN
from tcm_jax.model.layers.conv import Conv1x1, Conv3x3


def black(height: int, width: int) -> jax.Array:
    """Where the first step's symbols lie, those of an even sum of row and column: bool [height, width, 1]."""
    return ((jnp.arange(height)[:, None] + jnp.arange(width)) % 2 == 0)[..., None]


class Checkerboard(nn.Module):
    """mu and sigma of a slice in its second step, float32 [B, h, w, channels]; on black fields they stay.

    `symbols` are those of the slice, of which the black fields' are seen: as multiples of their scale, by logarithms of
    their sizes, since they reach from a fraction of it to hundreds.
    """

    width: int
    channels: int

    def setup(self):
        layers: list[Any] = [Conv3x3(self.width), ops.gelu, Conv3x3(self.width), ops.gelu, Conv1x1(2 * self.channels)]
        self.network = nn.Sequential(layers)

    def __call__(self, symbols: jax.Array, mu: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, scale = black(*mu.shape[1:3]), ops.lower_bound(sigma, SCALE_MIN)
        size = ops.log(1 + jnp.abs(symbols) / scale)
        seen = [jnp.where(first, part, 0) for part in (jnp.sign(symbols) * size, size)]
        shift, logarithm = jnp.split(self.network(jnp.concatenate([*seen, ops.log(scale)], axis=-1)), 2, axis=-1)
        second = ops.multiply_add(scale, shift, mu), sigma * ops.exp(logarithm)
        return jnp.where(first, mu, second[0]), jnp.where(first, sigma, second[1])
