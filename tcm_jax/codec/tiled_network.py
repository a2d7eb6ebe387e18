"""The network compiled, for grids of any size, tile by tile; encoder and decoder run the same programs.

On one machine both see the same numbers to the last bit, as long as they use the same tiles. Grids are [h, w, channels]
without a batch; sizes are (height, width) in pixels, multiples of 128. The side of a tile of g_a and g_s is None where
`tile_sizes.py` chooses it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.codec.decoding_network import DecodingNetwork, pieces_of
from tcm_jax.codec.programs import Parameters, Program
from tcm_jax.codec.tile_sizes import ANALYSIS_VALUES, SYNTHESIS_VALUES, piece_pixels, piece_sides
from tcm_jax.codec.tiles import ANALYSIS_HALO, SYNTHESIS_HALO, Grid, over_tiles, part
from tcm_jax.entropy import factorized, gaussian
from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE, padded_size
from tcm_jax.ops import kernels
from tcm_jax.weights.weights import Weights

_LEVEL = np.float32(1 / 255)  # of 8 bits; a product, which compilers make of a quotient
_CHUNK = 1 << 16  # symbols whose likelihoods are computed at a time

precise = functools.partial(Program, precise=True)


def _apply(config, params, method, *args):
    """`method` of the network on single pictures or grids, given and returned without a batch."""
    from tcm_jax.model.tcm import TCM  # imports Flax, which nobody needs whose programs are kept

    args = jax.tree.map(lambda grid: grid[None] if np.ndim(grid) == 3 else grid, args)
    return jax.tree.map(lambda grid: grid[0], TCM(config).apply({"params": params}, *args, method=method))


@Program
def _analysis(config, params, picture, level):
    return _apply(config, params, "analysis", picture.astype(jnp.float32) * _LEVEL, level)


@Program
def _hyper_analysis(config, params, y, level):
    return _apply(config, params, "hyper_analysis", y, level) - factorized.medians(params["entropy_bottleneck"])


@Program
def _synthesis(config, params, y_hat, level):
    x_hat = _apply(config, params, "synthesis", jnp.concatenate(y_hat, axis=-1), level)
    return jnp.round(jnp.clip(x_hat, 0, 1) * 255).astype(jnp.uint8)


@Program
def _detailed_synthesis(config, params, y_hat, symbols, level):
    details = [part.astype(jnp.float32) for part in symbols]
    x_hat = _apply(config, params, "detailed_synthesis", jnp.concatenate(y_hat, axis=-1), details, level)
    return jnp.round(jnp.clip(x_hat, 0, 1) * 255).astype(jnp.uint8)


@Program
def _detail_analysis(config, params, picture, y_hat, level):
    x = picture.astype(jnp.float32) * _LEVEL
    return _apply(config, params, "detail_analysis", x, jnp.concatenate(y_hat, axis=-1), level)


@precise
def _detail_scales(config, params, i, symbols, sigmas, earlier, level):
    y_symbols, *details = (part.astype(jnp.float32) for part in (jnp.concatenate(symbols, axis=-1), *earlier))
    return _apply(config, params, "detail_scales", i, y_symbols, jnp.concatenate(sigmas, axis=-1), details, level)


@precise
def _hyper_synthesis(config, params, z_symbols, level):
    z_hat = z_symbols.astype(jnp.float32) + factorized.medians(params["entropy_bottleneck"])
    return _apply(config, params, "hyper_synthesis", z_hat, level)


@precise
def _slice_params(config, params, i, latent_means, latent_scales, previous):
    return _apply(config, params, "slice_params", i, latent_means, latent_scales, previous)


@precise
def _second_step(config, params, i, symbols, mu, sigma):
    return _apply(config, params, "second_step", i, symbols.astype(jnp.float32), mu, sigma)


@precise
def _slice_latents(config, params, i, symbols, mu, support):
    return _apply(config, params, "slice_latents", i, symbols.astype(jnp.float32), mu, support)


@jax.jit
def _bits_y(symbols, sigma):
    return -jnp.log2(gaussian.likelihood(symbols.astype(jnp.float32), sigma))


@jax.jit
def _bits_z(prior, z_symbols):
    return -jnp.log2(factorized.likelihood(prior, z_symbols.astype(jnp.float32) + factorized.medians(prior)))


class TiledNetwork(DecodingNetwork):
    """One set of weights on one device."""

    def __init__(self, weights: Weights, device: jax.Device | None = None):
        self.config = weights.config
        self.params = Parameters(weights.params, device)

    def compute(self, program: str, *args: Any) -> Any:
        """Results of one of the programs above, of one tile."""
        return globals()[f"_{program}"](self.config, self.params, *args)

    @property
    def is_reference(self) -> bool:
        """Whether this device computes x_hat as all that write a residual layer do: a CPU with kernels."""
        return self.params.device.platform == "cpu" and kernels.available()

    @property
    def synthesis_pixels(self) -> int:
        """The most pixels of a piece of g_s."""
        return piece_pixels(SYNTHESIS_VALUES, self.config.widths[0])

    def analyze(
        self, image: np.ndarray, level: np.ndarray | None, side: int | None
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """uint8 [H, W, 3] of any size and gain level to float32 [h, w, channels]: slices of y, and z less its medians.

        Each slice is an array of its own, so that they need not all be kept.
        """
        size, channels = padded_size(*image.shape[:2]), self.config.slice_channels
        sides = self._analysis_sides(size, side)
        shape = (size[0] // LATENT_STRIDE, size[1] // LATENT_STRIDE, channels)
        y = [np.empty(shape, np.float32) for _ in range(self.config.num_slices)]
        for rows, columns in pieces_of(size, sides, ANALYSIS_HALO):
            tile = np.asarray(_analysis(self.config, self.params, cut(image, rows, columns), level))
            inner = tile[rows.inner(LATENT_STRIDE), columns.inner(LATENT_STRIDE)]
            for i, part_of_y in enumerate(y):
                kept = inner[..., i * channels : (i + 1) * channels]
                part_of_y[rows.kept(LATENT_STRIDE), columns.kept(LATENT_STRIDE)] = kept
            del tile, inner, kept  # before the next one is there

        def function(*y):
            return [_hyper_analysis(self.config, self.params, np.concatenate(y, axis=-1), level)]

        grids = [(part_of_y, LATENT_STRIDE) for part_of_y in y]
        (z,) = over_tiles(function, size, sides, ANALYSIS_HALO, grids, [HYPER_STRIDE])
        return y, np.asarray(z)

    def analyze_details(
        self, image: np.ndarray, y_hat: list[Grid], count: int, level: np.ndarray, side: int | None
    ) -> list[np.ndarray]:
        """The first `count` detail slices of a picture uint8 [H, W, 3] beside y, float32 [h, w, channels]."""
        size, channels = padded_size(*image.shape[:2]), self.config.detail_slice_channels
        sides = self.synthesis_sides(size, side)
        found = [np.empty((*y_hat[0].shape[:2], channels), np.float32) for _ in range(count)]
        for rows, columns in pieces_of(size, sides, SYNTHESIS_HALO):
            pieces = [part(grid, rows, columns, LATENT_STRIDE) for grid in y_hat]
            slices = _detail_analysis(self.config, self.params, cut(image, rows, columns), pieces, level)
            for whole, tile in zip(found, slices, strict=False):
                inner = np.asarray(tile)[rows.inner(LATENT_STRIDE), columns.inner(LATENT_STRIDE)]
                whole[rows.kept(LATENT_STRIDE), columns.kept(LATENT_STRIDE)] = inner
        return found

    def _analysis_sides(self, size: tuple[int, int], side: int | None) -> tuple[int, int]:
        pixels = piece_pixels(ANALYSIS_VALUES, self.config.widths[0])
        return piece_sides(size, pixels, ANALYSIS_HALO) if side is None else (side, side)

    def hyper_information(self, z: np.ndarray) -> float:
        """Bits of the symbols of z, int32 [h, w, channels], under the float distributions, as the loss counts rate."""
        bits = functools.partial(_bits_z, self.params.tree["entropy_bottleneck"])
        return _sum_by_chunks(bits, z.reshape(-1, z.shape[-1]))

    def slice_information(self, symbols: np.ndarray, sigma: np.ndarray) -> float:
        """Bits of the symbols of a slice, int32, under Gaussians of scales `sigma`, float32 of the same shape."""
        return _sum_by_chunks(_bits_y, symbols.ravel(), sigma.ravel())


def _sum_by_chunks(function, *arrays: np.ndarray) -> float:
    """Sum of an elementwise function, compiled once: the last chunk is filled up with ones, which do not count."""
    total, size = 0.0, min(_CHUNK, 1 << (len(arrays[0]) - 1).bit_length())
    for at in range(0, len(arrays[0]), size):
        chunks = [array[at : at + size] for array in arrays]
        count = len(chunks[0])
        filled = [np.concatenate([c, np.ones((size - count, *c.shape[1:]), c.dtype)]) for c in chunks]
        total += float(np.asarray(function(*filled))[:count].sum(dtype=np.float64))
    return total


def cut(image: np.ndarray, rows, columns) -> np.ndarray:
    """A tile of the picture, which goes on beyond its last row and column by repeating them."""
    tile = image[rows.start : rows.stop, columns.start : columns.stop]
    missing = (rows.stop - rows.start - tile.shape[0], columns.stop - columns.start - tile.shape[1])
    return np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else tile
