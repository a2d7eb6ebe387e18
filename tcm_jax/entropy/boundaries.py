"""Tables of symbols whose scale lies so near a boundary between two that a decoder's rounding could choose the other.

The encoder says on which side of the boundary its own scales lie where they are within two guard bands of one, and a
decoder asks where its own are within one: while the two differ by less than a band, that is among what the file tells
(docs/portability.md).
"""

import functools

import numpy as np

from tcm_jax.container import Container
from tcm_jax.entropy.tables import build_indexes, scale_cells, scale_table
from tcm_jax.sides import pack_sides, read_sides


class SideWriter:
    """Tables of one slice after the other, and what a decoder must be told of them."""

    def __init__(self, guard_band: float):
        self._guard_band = guard_band
        self._keys: list[np.ndarray] = []
        self._upper: list[np.ndarray] = []

    def indexes(self, sigma: np.ndarray) -> np.ndarray:
        """Table of each symbol of the next slice: int32, shape of `sigma` (float32 [h, w, channels])."""
        indexes = build_indexes(sigma)
        near, boundary = _near(sigma, indexes, 2 * self._guard_band)
        self._upper.append(indexes.ravel()[near] > boundary)
        self._keys.append(_keys_of(near, len(self._keys), sigma))
        return indexes

    def pack(self) -> bytes | None:
        """`Container.sides`; None without a guard band."""
        return pack_sides(np.concatenate(self._keys), np.concatenate(self._upper)) if self._guard_band else None


def decoded_indexes(file: Container, slice_index: int, sigma: np.ndarray) -> np.ndarray:
    """Tables that a slice was coded with: int32, shape of this device's `sigma` (float32 [h, w, channels]).

    Raises:
        StreamError: a correction of an older file lies outside the slice.
    """
    indexes = build_indexes(sigma)
    if file.sides is None:
        near = file.positions(slice_index, sigma.size)
        coded = _nearest_boundary(sigma.ravel()[near]) + 1  # a listed symbol has the larger table
    else:
        near, boundary = _near(sigma, indexes, file.guard_band)
        coded = boundary + read_sides(file.sides, _keys_of(near, slice_index, sigma))
    indexes.ravel()[near] = coded
    return indexes


def _keys_of(positions: np.ndarray, slice_index: int, sigma: np.ndarray) -> np.ndarray:
    """Of flat positions in a slice among the symbols of all slices, int64: the keys of their sides."""
    return positions.astype(np.int64) + slice_index * sigma.size


def boundary_positions(scales: np.ndarray, guard_band: float) -> np.ndarray:
    """Where a decoder's rounding could choose another table: the scale is within the band of a table boundary.

    Args:
        scales: float32, any shape, before any lower bound (which would put many scales exactly on a boundary).
        guard_band: half the width of the band, relative to the boundary; 0 lists nothing.

    Returns:
        Flat positions in C order, int32, strictly increasing.
    """
    return _near(scales, build_indexes(scales), guard_band)[0]


def _near(scales: np.ndarray, indexes: np.ndarray, guard_band: float) -> tuple[np.ndarray, np.ndarray]:
    """(`boundary_positions`, the number of each one's boundary), given the tables of all scales."""
    if guard_band == 0:
        return np.empty(0, np.int32), np.empty(0, np.int32)
    scales = np.asarray(scales, np.float32).ravel()
    perhaps = np.flatnonzero(_near_boundaries(guard_band).take(scale_cells(scales))).astype(np.int32)
    chosen, tables = scales[perhaps].astype(np.float64), indexes.ravel()[perhaps]
    edges = np.concatenate([[np.nan], scale_table()[:-1].astype(np.float64), [np.nan]])
    below, above = edges[tables], edges[tables + 1]
    over = chosen - below <= guard_band * below
    found = over | (above - chosen <= guard_band * above)
    return perhaps[found], (tables - over)[found]


@functools.lru_cache(maxsize=8)
def _near_boundaries(guard_band: float) -> np.ndarray:
    """Whether numbers of a cell may lie within the band of a boundary, bool [2**16]."""
    near, reach = np.zeros(1 << 16, bool), 1.001 * guard_band + 2.0**-22  # and what float32 rounds
    for boundary in scale_table()[:-1].astype(np.float64):
        first, last = scale_cells((boundary * np.array([1 - reach, 1 + reach])).astype(np.float32))
        near[first : last + 1] = True
    return near


def _nearest_boundary(scales: np.ndarray) -> np.ndarray:
    """Index in [0, 62] of the table boundary that is nearest by ratio."""
    boundaries = scale_table()[:-1].astype(np.float64)
    return np.searchsorted(np.sqrt(boundaries[1:] * boundaries[:-1]), scales)
