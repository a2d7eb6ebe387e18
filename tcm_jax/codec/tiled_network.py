"""The network compiled, for grids of any size, tile by tile; encoder and decoder run the same programs.

On one machine both see the same numbers to the last bit, as long as they use the same tiles. Grids are [h, w, channels]
without a batch; sizes are (height, width) in pixels, multiples of 128. The side of a tile of g_a and g_s is None where
`tile_sizes.py` chooses it.
"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from tcm_jax.codec.decoding_network import DecodingNetwork, pieces_of
from tcm_jax.codec.programs import Parameters, Program
from tcm_jax.codec.tile_sizes import ANALYSIS_VALUES, SYNTHESIS_VALUES, piece_pixels, piece_sides
from tcm_jax.codec.tiles import ANALYSIS_HALO, SYNTHESIS_HALO, Grid, Span, over_tiles, part
from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE, padded_size
from tcm_jax.ops import kernels
from tcm_jax.system.devices import pinned
from tcm_jax.weights.weights import Weights

if TYPE_CHECKING:
    import jax

_CHUNK = 1 << 16  # symbols whose likelihoods are computed at a time


def _program(name: str, *strides: int, precise: bool = False) -> Program:
    """A function of traced.py, which nobody imports who finds its program kept: it needs JAX and Flax."""

    def function(*args):
        from tcm_jax.codec import traced

        return getattr(traced, name)(*args)

    function.__name__ = name
    return Program(function, strides, precise)


_PICTURE, _Y, _Z, _LEVEL = 1, LATENT_STRIDE, HYPER_STRIDE, 0  # strides of arguments
_ENTROPY = functools.partial(_program, precise=True)
PROGRAMS = {
    program.function.__name__: program
    for program in (
        _program("analysis", _PICTURE, _LEVEL),
        _program("hyper_analysis", _Y, _LEVEL),
        _program("synthesis", _Y, _LEVEL),
        _program("detailed_synthesis", _Y, _Y, _LEVEL),
        _program("detail_analysis", _PICTURE, _Y, _LEVEL),
        _program("with_details", _PICTURE, _Y, _LEVEL),
        _ENTROPY("detail_scales", _Y, _Y, _Y, _LEVEL),
        _ENTROPY("hyper_synthesis", _Z, _LEVEL),
        _ENTROPY("slice_params", _Y, _Y, _Y),
        _ENTROPY("second_step", _Y, _Y, _Y),
        _ENTROPY("slice_latents", _Y, _Y, _Y),
    )
}


class TiledNetwork(DecodingNetwork):
    """One set of weights on one device."""

    def __init__(self, weights: Weights, device: "jax.Device | None" = None):
        self.config = weights.config
        self.params = Parameters(weights.params, device)
        self._prior = weights.params["entropy_bottleneck"]

    def compute(self, program: str, *args: Any) -> Any:
        """Results of one of PROGRAMS, of one tile."""
        return PROGRAMS[program](self.config, self.params, *args)

    @property
    def is_reference(self) -> bool:
        """Whether this device computes x_hat as all that write a residual layer do: a CPU with kernels."""
        return self.params.platform == "cpu" and kernels.available()

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
            tile = np.asarray(self.compute("analysis", cut(image, rows, columns), level))
            inner = tile[rows.inner(LATENT_STRIDE), columns.inner(LATENT_STRIDE)]
            for i, part_of_y in enumerate(y):
                kept = inner[..., i * channels : (i + 1) * channels]
                part_of_y[rows.kept(LATENT_STRIDE), columns.kept(LATENT_STRIDE)] = kept
            del tile, inner, kept  # before the next one is there

        def function(*y):
            return [self.compute("hyper_analysis", np.concatenate(y, axis=-1), level)]

        grids = [(part_of_y, LATENT_STRIDE) for part_of_y in y]
        (z,) = over_tiles(function, size, sides, ANALYSIS_HALO, grids, [HYPER_STRIDE])
        return y, np.asarray(z)

    def analyze_details(
        self, image: np.ndarray, y_hat: list[Grid], count: int, level: np.ndarray, side: int | None
    ) -> tuple[list[np.ndarray], Grid | None]:
        """The first `count` detail slices of a picture uint8 [H, W, 3] beside y, float32 [h, w, channels].

        Where g_s takes the picture, padded, in one piece, also what it made: float32 [H, W, 3].
        """
        size, channels = padded_size(*image.shape[:2]), self.config.detail_slice_channels
        sides = self.synthesis_sides(size, side)
        found = [np.empty((*y_hat[0].shape[:2], channels), np.float32) for _ in range(count)]
        whole_made = None
        for rows, columns in pieces_of(size, sides, SYNTHESIS_HALO):
            pieces = [part(grid, rows, columns, LATENT_STRIDE) for grid in y_hat]
            slices, made = self.compute("detail_analysis", cut(image, rows, columns), pieces, level)
            for whole, tile in zip(found, slices, strict=False):
                inner = np.asarray(tile)[rows.inner(LATENT_STRIDE), columns.inner(LATENT_STRIDE)]
                whole[rows.kept(LATENT_STRIDE), columns.kept(LATENT_STRIDE)] = inner
            whole_made = made if made.shape[:2] == size else None
            del slices, made, tile, inner  # before the next one is there
        return found, whole_made

    def _analysis_sides(self, size: tuple[int, int], side: int | None) -> tuple[int, int]:
        pixels = piece_pixels(ANALYSIS_VALUES, self.config.widths[0])
        return piece_sides(size, pixels, ANALYSIS_HALO) if side is None else (side, side)

    def hyper_information(self, z: np.ndarray) -> float:
        """Bits of the symbols of z, int32 [h, w, channels], under the float distributions, as the loss counts rate."""
        from tcm_jax.codec import traced

        prior = Parameters(self._prior, self.params.device).tree
        bits = functools.partial(traced.bits_z, prior)
        return _sum_by_chunks(bits, z.reshape(-1, z.shape[-1]))

    def slice_information(self, symbols: np.ndarray, sigma: np.ndarray) -> float:
        """Bits of the symbols of a slice, int32, under Gaussians of scales `sigma`, float32 of the same shape."""
        from tcm_jax.codec import traced

        return _sum_by_chunks(traced.bits_y, symbols.ravel(), sigma.ravel())


def _sum_by_chunks(function, *arrays: np.ndarray) -> float:
    """Sum of an elementwise function, compiled once: the last chunk is filled up with ones, which do not count."""
    total, size = 0.0, min(_CHUNK, 1 << (len(arrays[0]) - 1).bit_length())
    for at in range(0, len(arrays[0]), size):
        chunks = [array[at : at + size] for array in arrays]
        count = len(chunks[0])
        filled = [np.concatenate([c, np.ones((size - count, *c.shape[1:]), c.dtype)]) for c in chunks]
        with pinned():
            total += float(np.asarray(function(*filled))[:count].sum(dtype=np.float64))
    return total


def cut(image: np.ndarray, rows: Span, columns: Span) -> np.ndarray:
    """A tile of a picture [H, W, C], which goes on beyond its last row and column by repeating them."""
    tile = image[rows.start : rows.stop, columns.start : columns.stop]
    missing = (rows.stop - rows.start - tile.shape[0], columns.stop - columns.start - tile.shape[1])
    return np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else tile
