"""Tables beside a boundary: a decoder whose scales are off by less than the guard band finds the encoder's."""

import dataclasses

import numpy as np
import pytest

from tcm_jax.codec import guard_band
from tcm_jax.codec.container import Container
from tcm_jax.codec.ribbon import pack_sides
from tcm_jax.entropy import table_choice, tables
from tcm_jax.errors import StreamError

SLICES = 3
NONE = (np.empty(0, np.int32),) * SLICES


def some_scales(seed: int) -> np.ndarray:
    """On every boundary, no number, and anywhere: float32 [40, 50, 100]."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.uniform(np.log(0.05), np.log(300), (40, 50, 100))).astype(np.float32)
    scales[0, 0, :63] = tables.scale_table()[:63]
    scales[0, 1, :4] = [np.nan, np.inf, -1, 0]
    return scales


def file_of(band: float, sides: bytes | None, corrections=()) -> Container:
    checksums = (0,) * (SLICES + 1)
    return Container(800, 640, bytes(8), band, checksums, b"", sides=sides, corrections=corrections)


def written(scales: list[np.ndarray], band: float) -> tuple[list[np.ndarray], Container]:
    """Tables of the slices, and a file that says what a decoder needs."""
    writer = guard_band.SideWriter(band)
    return [writer.indexes(sigma) for sigma in scales], file_of(band, writer.pack())


@pytest.mark.parametrize("band", [1e-7, 2e-5, 0.03])
def test_looked_up_tables_are_those_of_a_search(band):
    """On any bits, and on every float32 within 2,000 of a boundary or of the edge of its band."""
    scale_table = tables.scale_table()
    edges = (scale_table * np.float32([[1 - band], [1], [1 + band]])).ravel().view(np.uint32)
    beside = (edges[:, None] + np.arange(-2000, 2001)).astype(np.uint32).ravel()
    bits = np.random.default_rng(0).integers(0, 2**32, 500_000, dtype=np.uint32)
    scales = np.concatenate([beside, bits, np.uint32([0x7F800001, 0xFF800001])]).view(np.float32)
    searched = np.searchsorted(scale_table[:-1], scales)
    np.testing.assert_array_equal(tables.build_indexes(scales), searched)
    np.testing.assert_array_equal(table_choice.chosen_tables(scales, band)[0], searched)
    scales = scales[np.isfinite(scales)]
    nearest = scale_table[table_choice.nearest_boundary(scales.astype(np.float64))].astype(np.float64)
    expected = np.flatnonzero(np.abs(scales.astype(np.float64) - nearest) <= band * nearest)
    np.testing.assert_array_equal(table_choice.boundary_positions(scales, band), expected)
    boundary = table_choice.chosen_tables(scales, band)[2]
    np.testing.assert_array_equal(scale_table[boundary], nearest[expected].astype(np.float32))


@pytest.mark.parametrize("band", [1e-5, 4e-5, 1e-3, 0.03])
def test_noise_within_the_band_moves_no_table(band):
    slices = [some_scales(seed) for seed in range(SLICES)]
    coded, file = written(slices, band)
    for i, sigma in enumerate(slices):
        np.testing.assert_array_equal(coded[i], tables.build_indexes(sigma))
        positions = table_choice.boundary_positions(sigma, band)
        assert positions.dtype == np.int32
        assert set(range(63)) <= set(positions.tolist())
        assert np.all(np.diff(positions) > 0)
    most = 0.99 / (1 + 2 * band)  # the band is relative to the boundary, this noise to a scale up to two bands above
    for noise in (-most, -0.5, 0, 0.5, most):
        moved = [(sigma * (1 + noise * band)).astype(np.float32) for sigma in slices]
        if band > 1e-4 and noise:  # enough symbols for the noise to matter
            assert np.any(tables.build_indexes(moved[1]) != coded[1])
        for i, sigma in enumerate(moved):
            np.testing.assert_array_equal(guard_band.decoded_indexes(file, i, sigma, i * sigma.size), coded[i])


def test_noise_beyond_the_band_moves_tables():
    slices = [some_scales(seed) for seed in range(SLICES)]
    coded, file = written(slices, 1e-3)
    moved = guard_band.decoded_indexes(file, 0, (slices[0] * 1.0025).astype(np.float32), 0)
    assert 0 < np.count_nonzero(moved != coded[0]) < 0.02 * coded[0].size


@pytest.mark.parametrize("side", [-1, 1])
def test_one_table_beyond_the_band_is_among_the_possible(side):
    """Two thirds of a band on one side of a boundary for the encoder, more than one on the other for the decoder."""
    band, sigma = 1e-3, some_scales(0)[1:9, :10].copy()
    sigma[3, 4, 5] = tables.scale_table()[20] * (1 + side * 0.67 * band)
    (coded, *_), file = written([sigma], band)
    moved = sigma.copy()
    moved[3, 4, 5] = tables.scale_table()[20] * (1 - side * 1.2 * band)
    first, *others = guard_band.possible_indexes(file, 0, moved, 0)
    assert np.flatnonzero(first != coded).tolist() == [(3 * 10 + 4) * 100 + 5]
    assert len(others) == 64
    assert sum(np.array_equal(other, coded) for other in others) == 1
    assert all(np.count_nonzero(other != first) == 1 for other in others)


def test_a_file_of_this_machine_alone_has_one_possibility():
    (coded, *_), file = written([some_scales(0)], 0.0)
    (only,) = guard_band.possible_indexes(file, 0, some_scales(0), 0)
    np.testing.assert_array_equal(only, coded)


def test_an_older_file_lists_what_has_the_larger_table():
    sigma = some_scales(0)
    for band in (4e-5, 1e-3):
        listed = table_choice.boundary_positions(sigma, band)
        file = file_of(band, None, (listed, *NONE[1:]))
        coded = guard_band.decoded_indexes(file, 0, sigma, 0)
        assert coded.ravel()[:63].tolist() == list(range(1, 64))
        others = np.setdiff1d(np.arange(sigma.size), listed)
        np.testing.assert_array_equal(coded.ravel()[others], tables.build_indexes(sigma).ravel()[others])
        for noise in (-0.99, 0.99):
            moved = (sigma * (1 + noise * band)).astype(np.float32)
            np.testing.assert_array_equal(guard_band.decoded_indexes(file, 0, moved, 0), coded)
    outside = dataclasses.replace(file, corrections=(np.array([sigma.size], np.int32), *NONE[1:]))
    with pytest.raises(StreamError, match="outside the picture"):
        guard_band.decoded_indexes(outside, 0, sigma, 0)


def test_every_slice_has_keys_of_its_own():
    """The same scales twice, on other sides: bits of the one must not be those of the other."""
    below, above = ((tables.scale_table()[:63] * side).reshape(7, 9, 1) for side in np.float32([1 - 1e-5, 1 + 1e-5]))
    coded, file = written([below, above, below], 4e-5)
    assert [indexes.ravel().tolist() for indexes in coded] == [[*range(63)], [*range(1, 64)], [*range(63)]]
    sigma = tables.scale_table()[:63].reshape(7, 9, 1)
    for i in range(SLICES):
        np.testing.assert_array_equal(guard_band.decoded_indexes(file, i, sigma, i * sigma.size), coded[i])


def test_no_band_says_nothing():
    assert table_choice.boundary_positions(tables.scale_table(), 0.0).size == 0
    (coded, *_), file = written([some_scales(0)], 0.0)
    assert file.sides is None
    np.testing.assert_array_equal(coded, guard_band.decoded_indexes(file, 0, some_scales(0), 0))
    assert written([np.full((4, 4, 3), 0.2, np.float32)], 4e-5)[1].sides == pack_sides(*np.empty((2, 0))) == b""
