"""The choice of tiles: what it costs at most, for every size, and what it may hold at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_jax.codec import tile_sizes
from tcm_jax.codec.container import MAX_TILE, MIN_TILE
from tcm_jax.codec.tiles import ANALYSIS_HALO, ENTROPY_HALO, SYNTHESIS_HALO, spans
from tcm_jax.model.config import ModelConfig, reference_config

EMBEDDED = ModelConfig(
    widths=(24, 64, 72), head_dims=(12, 16, 18), latent_channels=240, num_slices=3, context_widths=(32, 24)
)
TRANSFORMS = [(tile_sizes.ANALYSIS_VALUES, ANALYSIS_HALO), (tile_sizes.SYNTHESIS_VALUES, SYNTHESIS_HALO)]


def sizes(most: float, longest: float):
    """(height, width), padded, of up to `most` pixels, up to `longest` times as long as high or the other way round."""
    drawn = st.tuples(st.floats(0.02e6, most), st.floats(1 / longest, longest))
    return drawn.map(
        lambda drawn: tuple(128 * max(1, round((drawn[0] * r) ** 0.5 / 128)) for r in (drawn[1], 1 / drawn[1]))
    )


def costs(size: tuple[int, int], config: ModelConfig = EMBEDDED) -> tuple[float, float, float]:
    """Pixels that g_a, g_s and the entropy model compute for each of the picture's."""
    found = []
    for values, halo in TRANSFORMS:
        sides = tile_sizes.piece_sides(size, tile_sizes.piece_pixels(values, config.widths[0]), halo)
        found.append(tile_sizes.covered(size, sides, halo))
    side = tile_sizes.entropy_side(size, config)
    return found[0], found[1], tile_sizes.covered(size, (side, side), ENTROPY_HALO)


def check_cost(size: tuple[int, int], most: float) -> None:
    """By each part's time in the embedded model at 768x512 (docs/performance.md); range coding has no halo."""
    analysis, synthesis, entropy = costs(size)
    assert (30 * analysis + 18.7 * entropy + 5.3) / 54 <= most
    assert (43 * synthesis + 18.7 * entropy + 3.4) / 65.1 <= most


@settings(max_examples=300, deadline=None, derandomize=True)
@given(sizes(64e6, 3))
def test_halos_cost_at_most_a_seventh(size):
    check_cost(size, 1.15)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sizes(109e6, 3))
def test_halos_of_the_largest_pictures_cost_at_most_a_fifth(size):
    check_cost(size, 1.2)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sizes(109e6, 20), st.sampled_from([24, 128, 256]), st.sampled_from(TRANSFORMS))
def test_pieces_fit_and_cover(size, channels, transform):
    values, halo = transform
    pixels = tile_sizes.piece_pixels(values, channels)
    sides = tile_sizes.piece_sides(size, pixels, halo)
    assert sides[0] * sides[1] <= pixels
    assert (sides == size) == (size[0] * size[1] <= pixels)
    tiles = 1
    for length, side in zip(size, sides, strict=True):
        parts = spans(length, side, halo)
        assert side % 128 == 0
        assert {part.stop - part.start for part in parts} == {side}  # one shape to compile
        assert sum(part.last - part.first for part in parts) == length
        tiles *= len(parts)
    assert tile_sizes.covered(size, sides, halo) == pytest.approx(tiles * sides[0] * sides[1] / (size[0] * size[1]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sizes(109e6, 20))
def test_files_can_say_a_side_whose_grids_fit(size):
    side = tile_sizes.entropy_side(size, EMBEDDED)
    assert side == MIN_TILE or tile_sizes.entropy_bytes(size, side, EMBEDDED) <= tile_sizes.ENTROPY_BYTES
    if side:
        assert tile_sizes.entropy_bytes(size, 0, EMBEDDED) > tile_sizes.ENTROPY_BYTES
        assert MIN_TILE <= side <= MAX_TILE
        assert side % 128 == 0
        assert side < max(size)


@pytest.mark.parametrize("n", [64, 96, 128])
def test_what_was_one_piece_by_tiles_of_1024_is_one(n):
    for size in ((1024, 1024), (128, 1024), (896, 768)):
        assert costs(size) == costs(size, reference_config(n)) == (1, 1, 1)


def test_twelve_megapixels_are_one_piece():
    assert costs((3072, 4096)) == (1, 1, 1)
    assert tile_sizes.entropy_side((9088, 12032), EMBEDDED) == 1408


def test_a_strip_of_128_is_cut_along_its_length():
    size = (128, 200 * 1024)
    assert max(costs(size)) < 1.1
