"""Tiles cover every grid once, at a distance from every edge that is not the grid's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_jax.codec.tiles import over_tiles, spans


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cells=st.integers(1, 60), side=st.integers(4, 16), halo=st.sampled_from([0, 64, 128]))
def test_spans_cover_once(cells, side, halo):
    length, side = 128 * cells, 128 * side
    parts = spans(length, side, halo)
    assert [p.first for p in parts[1:]] == [p.last for p in parts[:-1]]
    assert (parts[0].first, parts[-1].last) == (0, length)
    for p in parts:
        assert p.start % 128 == 0
        assert p.stop - p.start == min(side, length)
        assert 0 <= p.start <= p.first < p.last <= p.stop <= length
        assert p.start == p.first == 0 or p.first - p.start >= halo
        assert p.stop == p.last == length or p.stop - p.last == halo
    assert spans(length, 0, halo) == spans(length, length, halo)


def test_the_cover_in_the_format():
    """Numbers from docs/format.md: files depend on them for ever."""
    parts = spans(2176, 1024, 64)
    assert [(p.start, p.stop, p.first, p.last) for p in parts] == [
        (0, 1024, 0, 960), (896, 1920, 960, 1856), (1152, 2176, 1856, 2176),
    ]  # fmt: skip


@pytest.mark.parametrize("halo", [64, 128])
def test_functions_of_bounded_reach_do_not_see_the_tiles(halo):
    """A mean over 3x3 positions of stride 16, zeros outside, twice upsampled."""
    grid = np.random.default_rng(0).normal(size=(80, 56, 2))

    def function(tile):
        padded = np.pad(tile, ((1, 1), (1, 1), (0, 0)))
        mean = sum(padded[i : i + len(tile), j : j + tile.shape[1]] for i in range(3) for j in range(3))
        return [mean.repeat(2, 0).repeat(2, 1), mean]

    whole = over_tiles(function, (1280, 896), (0, 0), halo, [(grid, 16)], [8, 16])
    tiled = over_tiles(function, (1280, 896), (512, 640), halo, [(grid, 16)], [8, 16])
    assert whole[0].shape == (160, 112, 2)
    for a, b in zip(whole, tiled, strict=True):
        np.testing.assert_array_equal(a, b)
