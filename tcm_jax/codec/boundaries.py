"""Tables of symbols whose scale lies so near a boundary between two that a decoder's rounding could choose the other.

The encoder says on which side of the boundary its own scales lie where they are within two guard bands of one, and a
decoder asks where its own are within one: while the two differ by less than a band, that is among what the file tells
(docs/portability.md). Where one of them differs by a little more, a decoder finds it by trying.
"""

import functools
from collections.abc import Iterator

import numpy as np

from tcm_jax.codec.container import Container
from tcm_jax.codec.old_corrections import listed_positions
from tcm_jax.codec.ribbon import pack_sides, read_sides
from tcm_jax.entropy.engines import native
from tcm_jax.entropy.tables import scale_table

_SEARCHED = 3  # bands from a boundary in which a table is exchanged on trial
_TRIALS = 64  # at most, in a slice


class SideWriter:
    """Tables of one slice after the other, and what a decoder must be told of them."""

    def __init__(self, guard_band: float):
        self._guard_band = guard_band
        self._keys: list[np.ndarray] = []
        self._symbols = 0  # of the slices so far
        self._upper: list[np.ndarray] = []

    def indexes(self, sigma: np.ndarray) -> np.ndarray:
        """Table of each symbol of the next slice: int32, shape of `sigma` (float32 [h, w, channels])."""
        indexes, near, boundary = _chosen(sigma, 2 * self._guard_band)
        self._upper.append(indexes.ravel()[near] > boundary)
        self._keys.append(near.astype(np.int64) + self._symbols)
        self._symbols += sigma.size
        return indexes

    def pack(self) -> bytes | None:
        """`Container.sides`; None without a guard band."""
        return pack_sides(np.concatenate(self._keys), np.concatenate(self._upper)) if self._guard_band else None


def decoded_indexes(file: Container, slice_index: int, sigma: np.ndarray, before: int | None = None) -> np.ndarray:
    """Tables that a slice was coded with: int32, shape of this device's `sigma` (float32 [h, w, channels]).

    `before` is how many symbols the slices before it have; None: as many each as this one.

    Raises:
        StreamError: a correction that an older file lists lies outside the slice.
    """
    before = slice_index * sigma.size if before is None else before
    indexes, near, boundary = _chosen(sigma, 0 if file.sides is None else file.guard_band)
    if file.sides is not None:
        indexes.ravel()[near] = boundary + read_sides(file.sides, near.astype(np.int64) + before)
    elif file.corrections:
        listed = listed_positions(file.corrections[slice_index], sigma.size)
        indexes.ravel()[listed] = _nearest_boundary(sigma.ravel()[listed]) + 1  # the larger table of the two
    return indexes


def possible_indexes(
    file: Container, slice_index: int, sigma: np.ndarray, before: int | None = None
) -> Iterator[np.ndarray]:
    """`decoded_indexes`; then, of a portable file, the same with the other table of one symbol, the likeliest first.

    Those are the symbols whose scale lies next to the end of a band: first to be wrong if arithmetic differs by more.
    """
    indexes = decoded_indexes(file, slice_index, sigma, before)
    yield indexes
    near, boundary = _chosen(sigma, _SEARCHED * file.guard_band)[1:]
    scales = scale_table()[boundary].astype(np.float64)
    distance = np.abs(np.abs(sigma.ravel()[near] - scales) - file.guard_band * scales) / scales
    for at in np.argsort(distance, kind="stable")[:_TRIALS]:
        other = indexes.copy()
        other.ravel()[near[at]] = 2 * boundary[at] + 1 - indexes.ravel()[near[at]]  # of the two beside the boundary
        yield other


def boundary_positions(scales: np.ndarray, guard_band: float) -> np.ndarray:
    """Where a decoder's rounding could choose another table: the scale is within the band of a table boundary.

    Args:
        scales: float32, any shape, before any lower bound (which would put many scales exactly on a boundary).
        guard_band: half the width of the band, relative to the boundary; 0 lists nothing.

    Returns:
        Flat positions in C order, int32, strictly increasing.
    """
    return _chosen(scales, guard_band)[1]


def _chosen(scales: np.ndarray, guard_band: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(`tables.build_indexes`, `boundary_positions`, the number of each one's boundary), in one pass."""
    scales = np.ascontiguousarray(scales, np.float32)
    indexes, near, boundary = np.empty(scales.shape, np.int32), *np.empty((2, scales.size), np.int32)
    flat = scales.reshape(-1)
    tables = _cells(guard_band), _boundaries_above(), *_bands(guard_band)
    count = native().choose(indexes.reshape(-1), near, boundary, flat, flat.view(np.uint32), *tables)
    return indexes, near[:count], boundary[:count]


@functools.cache
def _boundaries_above() -> np.ndarray:
    """The boundary above each table, float32 [64]."""
    return np.append(scale_table()[:-1], np.float32(np.inf))


@functools.lru_cache(maxsize=8)
def _cells(guard_band: float) -> np.ndarray:
    """Table of each cell's numbers, int32 [2**16]; of the first one, plus MIXED, if not all have it or some are near.

    A cell has the float32 of equal upper halves, and none has two boundaries.
    """
    first = np.arange(1 << 16, dtype=np.uint32) << 16
    below, above = _bands(guard_band)
    ends = [bits.view(np.float32) for bits in (first, first | 0xFFFF)]
    tables = [np.searchsorted(scale_table()[:-1], end) for end in ends]
    near = [(end <= below[table]) | (end >= above[table]) for end, table in zip(ends, tables, strict=True)]
    # What is not near is in one piece for each table, so two ends of it have nothing else between them.
    return (tables[0] + native().MIXED * ((tables[0] != tables[1]) | near[0] | near[1])).astype(np.int32)


@functools.lru_cache(maxsize=8)
def _bands(guard_band: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each table the last float32 in the band of the boundary below, and the first in that of the one above.

    NaN, which nothing is beyond, where there is no boundary, and everywhere without a band.
    """
    boundaries = scale_table()[:-1].astype(np.float64)
    reach, ends = guard_band * boundaries, []
    for sign in (1, -1):
        rounded = (boundaries + sign * reach).astype(np.float32).view(np.int32)
        beside = (rounded + np.arange(-2, 3, dtype=np.int32)[:, None]).view(np.float32)
        within = sign * (beside - boundaries) <= reach
        ends.append(sign * np.where(within, sign * beside, -np.inf).max(axis=0) if guard_band else np.nan * boundaries)
    below, above = ends
    return np.append(np.nan, below).astype(np.float32), np.append(above, np.nan).astype(np.float32)


def _nearest_boundary(scales: np.ndarray) -> np.ndarray:
    """Index in [0, 62] of the table boundary that is nearest by ratio."""
    boundaries = scale_table()[:-1].astype(np.float64)
    return np.searchsorted(np.sqrt(boundaries[1:] * boundaries[:-1]), scales)
