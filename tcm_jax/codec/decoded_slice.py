"""A slice's decoded latents, by rows of tiles as their inputs come: these, the largest grids, are never all held."""

from collections.abc import Iterator

import numpy as np

from tcm_jax.codec.decoding_network import DecodingNetwork
from tcm_jax.codec.tiles import ENTROPY_HALO, Grid, Span, spans
from tcm_jax.model.config import LATENT_STRIDE
from tcm_jax.system.memory import give_back_freed_memory


class DecodedSlice:
    """Decoded slice `i` of a grid of `height` pixels, made with tiles of `side`.

    `out`, float32 [h, w, slice channels], becomes the decoded slice where there are several rows of tiles. Its rows
    are overwritten once those of `add` have gone a halo beyond them, so it may be what the symbols are made of.
    """

    def __init__(self, network: DecodingNetwork, i: int, height: int, side: int, out: np.ndarray | None = None):
        self._network, self._i, self._height, self._side = network, i, height, side
        self._waiting = spans(height, side, ENTROPY_HALO)
        self._held: list[tuple[Span, list[np.ndarray]]] = []
        self.grid: Grid | None = out

    def add(self, rows: Span, symbols: np.ndarray, mu: Grid, support: Grid) -> None:
        """What is kept of the next row of tiles: symbols (int32), mu and support, [rows, w, channels] each."""
        if rows.last - rows.first == self._height:
            self.grid = self._network.slice_latents(self._i, symbols, mu, support, self._side)
            return
        self._held.append((rows, [symbols, np.asarray(mu), np.asarray(support)]))
        if self.grid is None:
            shape = self._height // LATENT_STRIDE, *symbols.shape[1:]
            self.grid = np.empty(shape, np.float32)
        while self._waiting and self._waiting[0].stop <= rows.last:
            self._decode(self._waiting.pop(0))

    def _decode(self, rows: Span) -> None:
        give_back_freed_memory()
        assert isinstance(self.grid, np.ndarray)
        for columns in spans(self.grid.shape[1] * LATENT_STRIDE, self._side, ENTROPY_HALO):
            parts = self._cut(rows.start, rows.stop, columns.whole(LATENT_STRIDE))
            tile = [np.concatenate(grids) for grids in zip(*parts, strict=True)]
            decoded = np.asarray(self._network.slice_latents(self._i, *tile, self._side))
            kept = decoded[rows.inner(LATENT_STRIDE), columns.inner(LATENT_STRIDE)]
            self.grid[rows.kept(LATENT_STRIDE), columns.kept(LATENT_STRIDE)] = kept
        self._drop_until(self._waiting[0].start if self._waiting else self._height)

    def _cut(self, first: int, last: int, columns: slice) -> Iterator[list[np.ndarray]]:
        """Rows from `first` to `last`, in pixels, of the grids that are held."""
        for held, grids in self._held:
            start, stop = (min(max(edge, held.first), held.last) - held.first for edge in (first, last))
            yield [grid[start // LATENT_STRIDE : stop // LATENT_STRIDE, columns] for grid in grids]

    def _drop_until(self, first: int) -> None:
        """Lets go of the rows before `first`: what remains of grids is copied, or it would hold all of them."""
        held = []
        for rows, grids in self._held:
            if rows.first < first < rows.last:
                start = (first - rows.first) // LATENT_STRIDE
                held.append((Span(first, rows.last, first, rows.last), [grid[start:].copy() for grid in grids]))
            elif first <= rows.first:
                held.append((rows, grids))
        self._held = held
