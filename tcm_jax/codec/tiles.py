"""Tiles: a function of bounded reach over a grid of any size, by pieces of a few fixed shapes (docs/format.md).

A side that fits in a tile is one tile. A longer one gets tiles of the full side, each `2 * halo` less than a side after
the one before and the last moved back to end with the grid; so the grid's true borders are a tile's borders, and what
is kept is at least a halo away from every other. All lengths are in pixels, whatever the stride of a grid.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tcm_jax.model.config import LATENT_STRIDE
from tcm_jax.system.memory import give_back_freed_memory

# Pixels, chosen by docs/experiments/2026-11-24-halos.md; that of the entropy model is part of the format.
ANALYSIS_HALO, ENTROPY_HALO, SYNTHESIS_HALO = 64, 64, 128
if TYPE_CHECKING:
    import jax

    Grid = np.ndarray | jax.Array  # [h, w, C]; programs take and give either
else:
    Grid = np.ndarray


@dataclasses.dataclass(frozen=True)
class Span:
    """One tile along one axis: it covers start .. stop, of which first .. last is kept."""

    start: int
    stop: int
    first: int
    last: int

    def whole(self, stride: int) -> slice:
        """Where the tile lies in a grid of `stride` pixels a position."""
        return slice(self.start // stride, self.stop // stride)

    def kept(self, stride: int) -> slice:
        """Where what is kept lies in such a grid."""
        return slice(self.first // stride, self.last // stride)

    def inner(self, stride: int) -> slice:
        """Where what is kept lies in the tile."""
        return slice((self.first - self.start) // stride, (self.last - self.start) // stride)

    def cut_to_kept(self, grid: "Grid", stride: int) -> "Grid":
        """The rows of a tile's grid that are kept; the grid itself where that is all of it."""
        inner = self.inner(stride)
        return grid if inner == slice(0, grid.shape[0]) else np.asarray(grid)[inner]


def spans(length: int, side: int, halo: int) -> list[Span]:
    """Covers `length` with tiles of `side` (0: one tile) that overlap by two halos."""
    if not side or length <= side:
        return [Span(0, length, 0, length)]
    starts = [*range(0, length - side, side - 2 * halo), length - side]
    borders = [0, *(start + side - halo for start in starts[:-1]), length]
    pairs = zip(starts, itertools.pairwise(borders), strict=True)
    return [Span(start, start + side, first, last) for start, (first, last) in pairs]


def tiles(size: tuple[int, int], sides: tuple[int, int], halo: int) -> Iterator[tuple[Span, Span]]:
    """(rows, columns) of every tile of a picture of `size`; both are (height, width)."""
    return itertools.product(spans(size[0], sides[0], halo), spans(size[1], sides[1], halo))


def part(grid: Grid, rows: Span, columns: Span, stride: int) -> Grid:
    """A tile of a grid; the grid itself where that is all of it, since on a device a slice is a program."""
    tile = rows.whole(stride), columns.whole(stride)
    return grid if tile == (slice(0, grid.shape[0]), slice(0, grid.shape[1])) else grid[tile]


def over_tiles(
    function: Callable[..., Sequence[Grid]],
    size: tuple[int, int],
    sides: tuple[int, int],
    halo: int,
    inputs: Sequence[tuple[Grid, int]],
    strides: Sequence[int],
) -> list[Grid]:
    """Results of `function` over whole grids; those of a single tile as they come, maybe on a device.

    Args:
        function: of one tile of every input, [h, w, C]; gives one array [h', w', C'] for each of `strides`.
        size, sides: height and width in pixels of all and of a tile (0: all), multiples of 128.
        inputs: grids [h, w, C] with their strides.
        strides: of the results.
    """
    covering = list(tiles(size, sides, halo))
    if len(covering) == 1:
        return list(function(*(grid for grid, _ in inputs)))
    give_back_freed_memory()
    results: list[np.ndarray] = []
    for rows, columns in covering:
        pieces = function(*(part(grid, rows, columns, stride) for grid, stride in inputs))
        if not results:
            grids = [(size[0] // stride, size[1] // stride) for stride in strides]
            results = [np.empty((*grid, p.shape[-1]), p.dtype) for grid, p in zip(grids, pieces, strict=True)]
        for result, piece, stride in zip(results, pieces, strides, strict=True):
            kept = np.asarray(piece)[rows.inner(stride), columns.inner(stride)]
            result[rows.kept(stride), columns.kept(stride)] = kept
    return list(results)


def rows_of_tiles(
    function: Callable[..., Sequence[Grid]],
    size: tuple[int, int],
    sides: tuple[int, int],
    halo: int,
    inputs: Sequence[tuple[Grid, int]],
    strides: Sequence[int],
) -> Iterator[tuple[Span, list[Grid]]]:
    """What `over_tiles` gives, from the top down: each row of tiles, and what is kept of its results [h', W', C']."""
    across = Span(0, size[1], 0, size[1])
    for rows in spans(size[0], sides[0], halo):
        strip = [(part(grid, rows, across, stride), stride) for grid, stride in inputs]
        results = over_tiles(function, (rows.stop - rows.start, size[1]), sides, halo, strip, strides)
        yield rows, [rows.cut_to_kept(grid, stride) for grid, stride in zip(results, strides, strict=True)]
        del results  # not held beside the next ones


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
        held: list[tuple[Span, list[Grid]]] = []
        for rows, grids in self._held:
            if rows.first < first < rows.last:
                start = (first - rows.first) // LATENT_STRIDE
                remaining: list[Grid] = [np.asarray(grid)[start:].copy() for grid in grids]
                held.append((Span(first, rows.last, first, rows.last), remaining))
            elif first <= rows.first:
                held.append((rows, grids))
        self._held = held
