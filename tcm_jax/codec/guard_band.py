"""The guard band: tables of symbols whose scale is so near a boundary that a decoder could choose the other table.

The encoder says on which side of the boundary its own scales lie where they are within two guard bands of one, and a
decoder asks where its own are within one: while the two differ by less than a band, that is among what the file tells
(docs/portability.md). Where one of them differs by a little more, a decoder finds it by trying.
"""

from collections.abc import Iterator

import numpy as np

from tcm_jax.codec.container import Container
from tcm_jax.codec.old_corrections import listed_positions
from tcm_jax.codec.ribbon import pack_sides, read_sides
from tcm_jax.entropy.table_choice import chosen_tables, nearest_boundary
from tcm_jax.entropy.tables import scale_table

GUARD_BAND = 4e-5  # relative half-width; docs/portability.md has the noise it must cover
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
        """Table of each of the next symbols, a slice's or some rows' of it: int32, shape of `sigma` (float32)."""
        indexes, near, boundary = chosen_tables(sigma, 2 * self._guard_band)
        self._upper.append(indexes.ravel()[near] > boundary)
        self._keys.append(near.astype(np.int64) + self._symbols)
        self._symbols += sigma.size
        return indexes

    def pack(self) -> bytes | None:
        """`Container.sides`; None without a guard band."""
        return pack_sides(np.concatenate(self._keys), np.concatenate(self._upper)) if self._guard_band else None


def decoded_indexes(file: Container, slice_index: int, sigma: np.ndarray, before: int) -> np.ndarray:
    """Tables that a slice was coded with: int32, shape of this device's `sigma` (float32), of all of it or some rows.

    `before` is how many symbols of the file's slices come before these.

    Raises:
        StreamError: a correction that an older file lists lies outside the slice.
    """
    indexes, near, boundary = chosen_tables(sigma, 0 if file.sides is None else file.guard_band)
    if file.sides is not None:
        indexes.ravel()[near] = boundary + read_sides(file.sides, near.astype(np.int64) + before)
    elif file.corrections:
        listed = listed_positions(file.corrections[slice_index], sigma.size)
        indexes.ravel()[listed] = nearest_boundary(sigma.ravel()[listed]) + 1  # the larger table of the two
    return indexes


def possible_indexes(file: Container, slice_index: int, sigma: np.ndarray, before: int) -> Iterator[np.ndarray]:
    """`decoded_indexes`; then, of a portable file, the same with the other table of one symbol, the likeliest first.

    Those are the symbols whose scale lies next to the end of a band: first to be wrong if arithmetic differs by more.
    """
    indexes = decoded_indexes(file, slice_index, sigma, before)
    yield indexes
    near, boundary = chosen_tables(sigma, _SEARCHED * file.guard_band)[1:]
    scales = scale_table()[boundary].astype(np.float64)
    distance = np.abs(np.abs(sigma.ravel()[near] - scales) - file.guard_band * scales) / scales
    for at in np.argsort(distance, kind="stable")[:_TRIALS]:
        other = indexes.copy()
        other.ravel()[near[at]] = 2 * boundary[at] + 1 - indexes.ravel()[near[at]]  # of the two beside the boundary
        yield other
