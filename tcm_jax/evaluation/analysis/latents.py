"""The latents of a picture and what they cost: bits a position and slice, deviation of y_hat from y, channel energy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.codec import slices
from tcm_jax.codec.tiled_network import cut
from tcm_jax.codec.tiles import Span
from tcm_jax.errors import ConfigError
from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE, padded_size
from tcm_jax.model.tcm import TCM
from tcm_jax.weights.weights import Weights

ANALYSIS_PIXELS = 2**23  # the picture goes through in one piece


@dataclasses.dataclass(frozen=True)
class LatentMaps:
    """Maps of the latents of one picture [H, W], cut to the positions that it touches.

    y, y_hat, means, scales, symbols float32 [ceil(H/16), ceil(W/16), C]; bits_y the information content of each symbol
    under the float distributions, of the same shape; bits_z float32 [ceil(H/64), ceil(W/64), C_z].
    """

    y: np.ndarray
    y_hat: np.ndarray
    means: np.ndarray
    scales: np.ndarray
    symbols: np.ndarray
    bits_y: np.ndarray
    bits_z: np.ndarray
    num_slices: int

    @property
    def slice_bits(self) -> np.ndarray:
        """Bits by slice and position: float32 [slices, h, w]."""
        height, width, channels = self.bits_y.shape
        by_slice = self.bits_y.reshape(height, width, self.num_slices, channels // self.num_slices)
        return by_slice.sum(-1).transpose(2, 0, 1)

    @property
    def hyper_bits(self) -> np.ndarray:
        """Bits of z by position: float32 [ceil(H/64), ceil(W/64)]."""
        return self.bits_z.sum(-1)

    @property
    def channel_energy(self) -> np.ndarray:
        """Mean square of each channel of y: float32 [C]."""
        return np.square(self.y).mean((0, 1))

    @property
    def channel_bits(self) -> np.ndarray:
        """Bits of each channel of y in the whole picture: float32 [C]."""
        return self.bits_y.sum((0, 1))

    @property
    def deviation(self) -> np.ndarray:
        """Sum of |y_hat - y| over the channels, over the mean of that of |y|: float32 [h, w] (Sec. 4.5)."""
        return np.abs(self.y_hat - self.y).sum(-1) / np.abs(self.y).sum(-1).mean()


@functools.partial(jax.jit, static_argnums=0)
def _forward(model: TCM, params, picture, level):
    x = picture[None].astype(jnp.float32) / 255
    return model.apply({"params": params}, x, level=level)[1]


def gain_level(weights: Weights, quality: float | None) -> np.ndarray | None:
    """Gain level of a quality from 1 to 100, float32 [1]; None for weights of one rate. Raises ConfigError."""
    levels = weights.config.levels
    if (quality is None) != (levels == 0):
        raise ConfigError("a quality is for variable-rate weights, which need one; these are" + " not" * (levels == 0))
    if quality is None:
        return None
    if not 1 <= quality <= 100:
        raise ConfigError(f"the quality must be a number from 1 to 100, not {quality:g}")
    return np.array([slices.gain_level(100 * quality, levels)], np.float32)


def padded(image: np.ndarray) -> np.ndarray:
    """A picture uint8 [H, W, 3] as the network takes it: its last row and column repeated to multiples of 128."""
    rows, columns = (Span(0, side, 0, side) for side in padded_size(*image.shape[:2]))
    return cut(image, rows, columns)


def latent_maps(weights: Weights, image: np.ndarray, quality: float | None = None) -> LatentMaps:
    """Runs a uint8 [H, W, 3] picture through the network in one piece.

    Raises ConfigError for more than ANALYSIS_PIXELS pixels, and for a quality that the weights do not have.
    """
    height, width = image.shape[:2]
    if height * width > ANALYSIS_PIXELS:
        raise ConfigError(f"the picture has {width}x{height} pixels; analyses take up to {ANALYSIS_PIXELS:,}: crop it")
    level = gain_level(weights, quality)
    out = _forward(TCM(weights.config), weights.params, padded(image), level)
    rows, columns = -(-height // LATENT_STRIDE), -(-width // LATENT_STRIDE)
    maps = {key: np.asarray(out[key][0, :rows, :columns]) for key in ("y", "y_hat", "means", "scales", "symbols")}
    bits_y, bits_z = (-np.log2(np.asarray(out[key][0])) for key in ("likelihood_y", "likelihood_z"))
    z_rows, z_columns = -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)
    return LatentMaps(**maps, bits_y=bits_y[:rows, :columns], bits_z=bits_z[:z_rows, :z_columns],
                      num_slices=weights.config.num_slices)  # fmt: skip
