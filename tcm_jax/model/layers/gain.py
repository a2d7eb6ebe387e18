"""Gain units: one network for all rates (Cui et al., Asymmetric Gained Deep Image Compression, CVPR 2021)."""

import flax.linen as nn
import jax

from tcm_jax import ops


class Gain(nn.Module):
    """Multiplies each channel by a factor that depends on the level: [B, H, W, C], shape kept.

    Each of the `levels` has its own factors, kept as logarithms; between two levels they are interpolated
    geometrically (Eq. 7 of Cui et al.). They start as ones, which leave the network as it was.
    """

    levels: int

    @nn.compact
    def __call__(self, x: jax.Array, level: jax.Array, scale: float = 1.0) -> jax.Array:
        """`level` float [B], 0 .. levels - 1; any real position between. `scale` multiplies all factors."""
        log_gains = self.param("log_gain", nn.initializers.zeros_init(), (self.levels, x.shape[-1]))
        return ops.gain(x, log_gains, level, scale)
