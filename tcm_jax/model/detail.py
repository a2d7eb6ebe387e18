"""Detail beside the transforms: what g_s misses of a picture, as coefficients of 16x16 blocks.

240 channels of y hold a photograph to about 40 dB. Above, what the decoded picture lacks is coded by a linear transform
of blocks, which costs next to nothing to decode and is near to the best at high rates. The encoder subtracts what the
decoder will have, so the means are zero and only scales are predicted (docs/experiments/2026-11-28-detail.md).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax import ops
from tcm_jax.entropy.gaussian import SCALE_MIN
from tcm_jax.model.config import LATENT_STRIDE, ModelConfig
from tcm_jax.model.layers.conv import Conv1x1, Conv3x3
from tcm_jax.model.layers.gain import Gain

BLOCK_VALUES = 3 * LATENT_STRIDE**2  # of a block of a picture, RGB


class Detail(nn.Module):
    """Transforms, gains and scales of the detail slices; maps are float32 NHWC, `level` is float [B]."""

    config: ModelConfig

    def setup(self):
        c = self.config
        slices = range(len(c.detail_from))
        self.forward_basis = Conv1x1(c.detail_channels)
        self.inverse_basis = Conv1x1(BLOCK_VALUES)
        self.gain = [Gain(c.levels) for _ in slices]
        self.inverse_gain = [Gain(c.levels) for _ in slices]
        self.scale_transforms = [self._scale_transform() for _ in slices]

    def _scale_transform(self) -> nn.Sequential:
        c = self.config
        return nn.Sequential(
            [Conv1x1(c.detail_width), ops.gelu, Conv3x3(c.detail_width), ops.gelu, Conv1x1(c.detail_slice_channels)]
        )

    def coded(self, i: int, level: jax.Array) -> jax.Array:
        """Whether a picture of this level has slice `i`: bool [B, 1, 1, 1]."""
        return (level > self.config.detail_from[i])[:, None, None, None]

    def analysis(self, missing: jax.Array, level: jax.Array) -> list[jax.Array]:
        """What is missing [B, H, W, 3] to gained slices [B, H/16, W/16, detail_slice_channels]."""
        coefficients = self.forward_basis(ops.pixel_unshuffle(missing, LATENT_STRIDE))
        parts = jnp.split(coefficients, len(self.gain), axis=-1)
        return [gain(part, level) for gain, part in zip(self.gain, parts, strict=True)]

    def synthesis(self, symbols: list[jax.Array], level: jax.Array) -> jax.Array:
        """Symbols of the first slices, as many as there are, to what they add to the picture [B, H, W, 3]."""
        parts = [inverse(part, level) for inverse, part in zip(self.inverse_gain, symbols, strict=False)]
        channels = self.config.detail_channels - sum(part.shape[-1] for part in parts)
        parts += [jnp.zeros((*parts[0].shape[:-1], channels), parts[0].dtype)] if channels else []
        return ops.pixel_shuffle(self.inverse_basis(*parts), LATENT_STRIDE)

    def scales(self, i: int, context: jax.Array, earlier: list[jax.Array], level: jax.Array) -> jax.Array:
        """sigma of slice `i` from `magnitudes` of y and the symbols of the detail slices before it."""
        seen = [
            log_magnitude(inverse(jnp.abs(symbols) + 0.5, level))
            for inverse, symbols in zip(self.inverse_gain, earlier, strict=False)
        ]
        logarithm = self.scale_transforms[i](jnp.concatenate([context, *seen], axis=-1))
        return self.gain[i](ops.exp(logarithm), level, 1 / 255)  # one product, in the order that XLA takes


def magnitudes(symbols: jax.Array, sigma: jax.Array, inverse_gain) -> jax.Array:
    """What `Detail.scales` sees of y, whatever its gains: [B, h, w, 2 * latent_channels].

    `inverse_gain` undoes the gains of y; symbols and sigma are those that were coded.
    """
    sigma = ops.lower_bound(sigma, SCALE_MIN)
    return jnp.concatenate([log_magnitude(inverse_gain(m)) for m in (jnp.abs(symbols) + 0.5, sigma)], axis=-1)


def log_magnitude(x: jax.Array) -> jax.Array:
    """Logarithm of magnitudes of pictures in [0, 1], in steps of 8 bits."""
    return ops.log(255 * x)
