"""The decoder's part of the network for grids of any size, tile by tile, whatever computes a tile.

Grids are [h, w, channels] without a batch; sizes are (height, width) in pixels, multiples of 128. The side of a tile of
g_s is None where `tile_sizes.py` chooses it.
"""

import abc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tcm_jax.codec.latent_context import LatentContext
from tcm_jax.codec.tile_sizes import piece_sides
from tcm_jax.codec.tiles import ENTROPY_HALO, SYNTHESIS_HALO, Grid, Span, over_tiles, part, tiles
from tcm_jax.model.config import LATENT_STRIDE, ModelConfig, padded_size
from tcm_jax.system.memory import give_back_freed_memory


class DecodingNetwork(abc.ABC):
    """One set of weights, wherever its programs run."""

    config: ModelConfig

    @abc.abstractmethod
    def compute(self, program: str, *args: Any) -> Any:
        """Results of one of `tiled_network.PROGRAMS`, of one tile."""

    @property
    @abc.abstractmethod
    def synthesis_pixels(self) -> int:
        """The most pixels of a piece of g_s."""

    def synthesize(
        self,
        y_hat: list[Grid],
        details: Sequence[Grid],
        level: np.ndarray | None,
        size: tuple[int, int],
        side: int | None,
    ) -> np.ndarray:
        """Decoded slices of y, and the symbols of as many detail slices as there are, to the picture.

        It is uint8 [H, W, 3] of any `size`.
        """
        picture, padded = np.empty((*size, 3), np.uint8), padded_size(*size)
        for rows, columns in pieces_of(padded, self.synthesis_sides(padded, side), SYNTHESIS_HALO):
            pieces, added = ([part(grid, rows, columns, LATENT_STRIDE) for grid in grids] for grids in (y_hat, details))
            args = ("detailed_synthesis", pieces, added) if details else ("synthesis", pieces)
            tile = np.asarray(self.compute(*args, level))[rows.inner(1), columns.inner(1)]
            kept = picture[rows.kept(1), columns.kept(1)]
            kept[:] = tile[: kept.shape[0], : kept.shape[1]]
            del pieces, added, args, tile  # before the next ones are there
        return picture

    def synthesis_sides(self, size: tuple[int, int], side: int | None) -> tuple[int, int]:
        """Height and width of the tiles of g_s."""
        return piece_sides(size, self.synthesis_pixels, SYNTHESIS_HALO) if side is None else (side, side)

    def in_one_piece(self, size: tuple[int, int]) -> bool:
        """Whether g_s takes a picture of that padded size in one piece where it may choose."""
        return self.synthesis_sides(size, None) == size

    def detail_scales(
        self, symbols: Sequence[Grid], sigmas: Sequence[Grid], earlier: Sequence[Grid], level: np.ndarray, side: int
    ) -> Grid:
        """sigma of the next detail slice from symbols (int32) and scales of y, and the symbols of those before it."""
        slices = len(symbols)

        def function(*grids):
            y_symbols, y_sigmas, details = grids[:slices], grids[slices : 2 * slices], grids[2 * slices :]
            return [self.compute("detail_scales", len(details), y_symbols, y_sigmas, details, level)]

        inputs = [(grid, LATENT_STRIDE) for grid in (*symbols, *sigmas, *earlier)]
        return self._entropy(function, inputs, 1, side)[0]

    def hyper(self, z: np.ndarray, level: np.ndarray | None, side: int) -> LatentContext:
        """Symbols of z, int32, to latent means and scales."""

        def function(z):
            return self.compute("hyper_synthesis", z, level)

        return LatentContext(function, z, side, self.config.latent_channels)

    def slice_params(
        self, i: int, context: LatentContext, decoded: list[Grid], side: int, with_support: bool = True
    ) -> Iterator[tuple[Span, list[Grid]]]:
        """Rows of tiles of slice `i`, from the top down, and what is kept there of [mu, sigma, support], float32.

        Training, encoder and decoder share this one function. The support is the largest grid, and an encoder has no
        use for that of the last slice.
        """
        results = 3 if with_support else 2

        def function(means, scales, *previous):
            return self.compute("slice_params", i, means, scales, previous)[:results]

        width = context.size[1]
        for rows, strip in context.rows():
            before = [part(grid, rows, Span(0, width, 0, width), LATENT_STRIDE) for grid in decoded]
            inputs = [(grid, LATENT_STRIDE) for grid in (*strip, *before)]
            grids = self._entropy(function, inputs, results, side)
            del strip, before, inputs
            yield rows, [rows.cut_to_kept(grid, LATENT_STRIDE) for grid in grids]
            del grids  # not held beside the next ones

    def whole_slice_params(self, i: int, context: LatentContext, decoded: list[Grid], side: int) -> list[Grid]:
        """[mu, sigma, support] of slice `i`."""
        whole: list[np.ndarray] = []
        for rows, grids in self.slice_params(i, context, decoded, side):
            if rows.last - rows.first == context.size[0]:
                return grids
            height = context.size[0] // LATENT_STRIDE
            whole = whole or [np.empty((height, *grid.shape[1:]), np.float32) for grid in grids]
            for grid, kept in zip(whole, grids, strict=True):
                grid[rows.kept(LATENT_STRIDE)] = kept
        return list(whole)

    def second_step(self, i: int, symbols: Grid, mu: Grid, sigma: Grid, side: int) -> list[Grid]:
        """[mu, sigma] of slice `i` from symbols (int32) of which a checkerboard's black fields are known."""

        def function(*grids):
            return self.compute("second_step", i, *grids)

        return self._entropy(function, [(grid, LATENT_STRIDE) for grid in (symbols, mu, sigma)], 2, side)

    def slice_latents(self, i: int, symbols: Grid, mu: Grid, support: Grid, side: int) -> Grid:
        """Decoded slice `i` from its symbols (int32)."""

        def function(*grids):
            return [self.compute("slice_latents", i, *grids)]

        return self._entropy(function, [(grid, LATENT_STRIDE) for grid in (symbols, mu, support)], 1, side)[0]

    def _entropy(self, function, inputs, results: int, side: int) -> list[Grid]:
        height, width = inputs[0][0].shape[:2]
        size = height * LATENT_STRIDE, width * LATENT_STRIDE
        return over_tiles(function, size, (side, side), ENTROPY_HALO, inputs, [LATENT_STRIDE] * results)


def pieces_of(size: tuple[int, int], sides: tuple[int, int], halo: int) -> Iterator[tuple[Span, Span]]:
    """(rows, columns) of the tiles of g_a or g_s.

    Where there are several, freed memory goes back to the system before each and at the end, or fragments of it stay.
    """
    covering = list(tiles(size, sides, halo))
    for tile in covering:
        if len(covering) > 1:
            give_back_freed_memory()
        yield tile
    if len(covering) > 1:
        give_back_freed_memory()
