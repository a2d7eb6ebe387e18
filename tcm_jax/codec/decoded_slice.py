"""A slice's grids by rows of tiles as they come: the largest ones, which its steps need, are never all held."""

from collections.abc import Iterator, Sequence

import numpy as np

from tcm_jax.codec.decoding_network import DecodingNetwork
from tcm_jax.codec.tiles import ENTROPY_HALO, Grid, Span, spans
from tcm_jax.model.config import LATENT_STRIDE
from tcm_jax.system.memory import give_back_freed_memory


class HeldRows:
    """Rows of grids [h, w, channels] of `height` pixels, held for all the rows of tiles of `side` that reach them."""

    def __init__(self, height: int, side: int):
        self._height = height
        self._waiting = spans(height, side, ENTROPY_HALO)
        self._held: list[tuple[Span, list[Grid]]] = []

    def add(self, rows: Span, grids: Sequence[Grid]) -> Iterator[Span]:
        """What is kept of the next row of tiles. Gives each row of tiles that can be `cut` now, until the next one."""
        self._held.append((rows, list(grids)))
        while self._waiting and self._waiting[0].stop <= rows.last:
            yield self._waiting.pop(0)
            self._drop_until(self._waiting[0].start if self._waiting else self._height)

    def cut(self, first: int, last: int) -> list[Grid]:
        """Rows from `first` to `last`, in pixels, of the grids; those of a single row of tiles as they came."""
        if len(self._held) == 1 and (self._held[0][0].first, self._held[0][0].last) == (first, last):
            return self._held[0][1]
        parts = []
        for held, grids in self._held:
            start, stop = (min(max(edge, held.first), held.last) - held.first for edge in (first, last))
            parts.append([np.asarray(grid)[start // LATENT_STRIDE : stop // LATENT_STRIDE] for grid in grids])
        return [np.concatenate(grids) for grids in zip(*parts, strict=True)]

    def _drop_until(self, first: int) -> None:
        """Lets go of the rows before `first`: what remains of grids is copied, or it would hold all of them."""
        held = []
        for rows, grids in self._held:
            if rows.first < first < rows.last:
                start = (first - rows.first) // LATENT_STRIDE
                remaining = [np.asarray(grid)[start:].copy() for grid in grids]
                held.append((Span(first, rows.last, first, rows.last), remaining))
            elif first <= rows.first:
                held.append((rows, grids))
        self._held = held


class DecodedSlice:
    """Decoded slice `i` of a grid of `height` pixels, made with tiles of `side`.

    `out`, float32 [h, w, slice channels], becomes the decoded slice where there are several rows of tiles. Its rows
    are overwritten once those of `add` have gone a halo beyond them, so it may be what the symbols are made of.
    """

    def __init__(self, network: DecodingNetwork, i: int, height: int, side: int, out: np.ndarray | None = None):
        self._network, self._i, self._height, self._side = network, i, height, side
        self._held = HeldRows(height, side)
        self.grid: Grid | None = out

    def add(self, rows: Span, symbols: np.ndarray, mu: Grid, support: Grid) -> None:
        """What is kept of the next row of tiles: symbols (int32), mu and support, [rows, w, channels] each."""
        if rows.last - rows.first == self._height:
            self.grid = self._network.slice_latents(self._i, symbols, mu, support, self._side)
            return
        if self.grid is None:
            self.grid = np.empty((self._height // LATENT_STRIDE, *symbols.shape[1:]), np.float32)
        assert isinstance(self.grid, np.ndarray)
        for tiles in self._held.add(rows, (symbols, mu, support)):
            give_back_freed_memory()
            strip = self._held.cut(tiles.start, tiles.stop)
            decoded = np.asarray(self._network.slice_latents(self._i, *strip, self._side))
            self.grid[tiles.kept(LATENT_STRIDE)] = decoded[tiles.inner(LATENT_STRIDE)]
