"""A slice's grids by rows of tiles as they come: the largest ones, which its steps need, are never all held."""

import numpy as np

from tcm_jax.codec.decoding_network import DecodingNetwork
from tcm_jax.codec.tiles import Grid, HeldRows, Span
from tcm_jax.model.config import LATENT_STRIDE
from tcm_jax.system.memory import give_back_freed_memory


class DecodedSlice:
    """Decoded slice `i` of a grid of `height` pixels, made with tiles of `side`.

    `out`, float32 [h, w, slice channels], becomes the decoded slice where there are several rows of tiles. Its rows
    are overwritten once those of `add` have gone a halo beyond them, so it may be what the symbols are made of.
    """

    def __init__(self, network: DecodingNetwork, i: int, height: int, side: int, out: np.ndarray | None = None):
        self._network, self._i, self._height, self._side = network, i, height, side
        self._held = HeldRows(height, side)
        self._grid: Grid | None = out

    @property
    def grid(self) -> Grid:
        """The decoded slice, once all its rows were added."""
        assert self._grid is not None
        return self._grid

    def add(self, rows: Span, symbols: np.ndarray, mu: Grid, support: Grid) -> None:
        """What is kept of the next row of tiles: symbols (int32), mu and support, [rows, w, channels] each."""
        if rows.last - rows.first == self._height:
            self._grid = self._network.slice_latents(self._i, symbols, mu, support, self._side)
            return
        if self._grid is None:
            self._grid = np.empty((self._height // LATENT_STRIDE, *symbols.shape[1:]), np.float32)
        assert isinstance(self._grid, np.ndarray)
        for tiles in self._held.add(rows, (symbols, mu, support)):
            give_back_freed_memory()
            seen, means, context = self._held.cut(tiles.start, tiles.stop)
            decoded = np.asarray(self._network.slice_latents(self._i, seen, means, context, self._side))
            self._grid[tiles.kept(LATENT_STRIDE)] = decoded[tiles.inner(LATENT_STRIDE)]
