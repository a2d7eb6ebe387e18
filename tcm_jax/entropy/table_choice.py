"""The choice of a table for each scale, and which scales lie so near a boundary that rounding could choose another.

The choice is that of `tables.build_indexes`, by a look-up of the upper halves of float32 numbers, in one pass.
"""

import functools

import numpy as np
from numpy import float32, int32, int64, uint32, uint64

from tcm_jax.entropy.tables import scale_table
from tcm_jax.system.machine_code import Array
from tcm_jax.system.object_code import compiled

_MIXED = 64  # added to the table of numbers that do not all have it

_INTS = Array(int32, 1, readonly=True)
_FLOATS = Array(float32, 1, readonly=True)
_BITS = Array(uint32, 1, readonly=True)
_OUT = Array(int32, 1)


def boundary_positions(scales: np.ndarray, guard_band: float) -> np.ndarray:
    """Where a decoder's rounding could choose another table: the scale is within the band of a table boundary.

    Args:
        scales: float32, any shape, before any lower bound (which would put many scales exactly on a boundary).
        guard_band: half the width of the band, relative to the boundary; 0 lists nothing.

    Returns:
        Flat positions in C order, int32, strictly increasing.
    """
    return chosen_tables(scales, guard_band)[1]


def chosen_tables(scales: np.ndarray, guard_band: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(`tables.build_indexes` of `scales`, `boundary_positions`, the boundary of each of these, int32), in one pass."""
    scales = np.ascontiguousarray(scales, np.float32)
    indexes, near, boundary = np.empty(scales.shape, np.int32), *np.empty((2, scales.size), np.int32)
    flat = scales.reshape(-1)
    tables = _cells(guard_band), _boundaries_above(), *_bands(guard_band)
    count = _choose(indexes.reshape(-1), near, boundary, flat, flat.view(np.uint32), *tables)
    return indexes, near[:count], boundary[:count]


@functools.cache
def _boundaries_above() -> np.ndarray:
    """The boundary above each table, float32 [64]."""
    return np.append(scale_table()[:-1], np.float32(np.inf))


@functools.lru_cache(maxsize=8)
def _cells(guard_band: float) -> np.ndarray:
    """Table of each cell's numbers, int32 [2**16]; of the first one, plus _MIXED, if not all have it or some are near.

    A cell has the float32 of equal upper halves, and none has two boundaries.
    """
    first = np.arange(1 << 16, dtype=np.uint32) << 16
    below, above = _bands(guard_band)
    ends = [bits.view(np.float32) for bits in (first, first | 0xFFFF)]
    tables = [np.searchsorted(scale_table()[:-1], end) for end in ends]
    near = [(end <= below[table]) | (end >= above[table]) for end, table in zip(ends, tables, strict=True)]
    # What is not near is in one piece for each table, so two ends of it have nothing else between them.
    return (tables[0] + _MIXED * ((tables[0] != tables[1]) | near[0] | near[1])).astype(np.int32)


@functools.lru_cache(maxsize=8)
def _bands(guard_band: float) -> tuple[np.ndarray, np.ndarray]:
    """(last float32 in the band of the boundary below, first in that of the one above) of each table, [64] each.

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


def nearest_boundary(scales: np.ndarray) -> np.ndarray:
    """Index in [0, 62] of the table boundary that is nearest by ratio, int64 of the shape of `scales` (float32)."""
    boundaries = scale_table()[:-1].astype(np.float64)
    return np.searchsorted(np.sqrt(boundaries[1:] * boundaries[:-1]), scales)


@compiled(_OUT, _OUT, _OUT, _FLOATS, _BITS, _INTS, _FLOATS, _FLOATS, _FLOATS)
def _choose(indexes, near, boundary, scales, bits, cells, upper, from_below, from_above):
    """Fill `indexes` with the table of each of `scales`; returns how many of them are near a boundary.

    The positions of those go to `near`, the numbers of their boundaries to `boundary`, both as long as `scales`.
    `bits` is their memory; `cells[bits >> 16]` the table, or _MIXED more than the first table that such numbers have,
    `upper` the boundary above each table, `from_below` and `from_above` the largest number near the one below, the
    smallest near the one above.
    """
    count = 0
    for i in range(scales.size):
        table = uint64(cells[bits[i] >> 16])  # unsigned, as Numba asks of every other index whether it is negative
        if table >= _MIXED:  # one cell in 16 to 32
            scale = scales[i]
            table -= uint64(_MIXED)
            table += uint64(scale > upper[table])
            if scale != scale:
                table = uint64(upper.size - 1)
            beyond = scale <= from_below[table]
            if beyond or scale >= from_above[table]:
                near[count] = i
                boundary[count] = int64(table) - beyond
                count += 1
        indexes[i] = table
    return count
