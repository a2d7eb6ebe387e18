"""Gain units: one network for all rates (Cui et al., Asymmetric Gained Deep Image Compression, CVPR 2021)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.ops import kernels


class Gain(nn.Module):
    """Multiplies each channel by a factor that depends on the level: [B, H, W, C], shape kept.

    Each of the `levels` has its own factors, kept as logarithms; between two levels they are interpolated
    geometrically (Eq. 7 of Cui et al.). They start as ones, which leave the network as it was.
    """

    levels: int

    @nn.compact
    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
        """`level` float [B], 0 .. levels - 1; any real position between."""
        table = self.param("log_gain", nn.initializers.zeros_init(), (self.levels, x.shape[-1]))
        lower = jnp.clip(jnp.floor(level), 0, self.levels - 2)
        share = (level - lower)[:, None]
        lower = lower.astype(jnp.int32)
        low, high = table[lower], table[lower + 1]
        if kernels.take(x):
            factor = kernels.exp(jnp.broadcast_to(share, low.shape), high - low, low)
        else:
            factor = jnp.exp((1 - share) * low + share * high)
        return x * factor[:, None, None].astype(x.dtype)
