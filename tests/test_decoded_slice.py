"""Slices by rows of tiles are slices as a whole: the same bytes, the same picture, the same search for a table."""

import dataclasses
from unittest import mock

import numpy as np
import pytest
from conftest import drawn_weights, photograph

from tcm_jax.codec import guard_band, latent_context, picture_encoder, tile_sizes, tiled_network
from tcm_jax.codec.codec import Codec
from tcm_jax.codec.container import parse
from tcm_jax.codec.slice_decoder import SliceDecoder
from tcm_jax.codec.tiled_network import TiledNetwork
from tcm_jax.codec.tiles import Span
from tcm_jax.entropy.tables import scale_table
from tcm_jax.errors import ArithmeticMismatchError
from tcm_jax.weights.files import load_weights

BAND = 0.01


@pytest.fixture(scope="module")
def tall(tiny_weights) -> tuple[Codec, bytes]:
    """Four rows of tiles: 0-512, 384-896, 768-1280 and, moved back, 896-1408."""
    codec = Codec(tiny_weights, coder="native", guard_band=BAND, tile=512)
    return codec, codec.compress(photograph(1300, 100))


def test_rows_give_the_whole(tall):
    codec, data = tall
    by_rows, slice_params = [], TiledNetwork.slice_params
    decode_rows = SliceDecoder._decode_rows

    def counted(*args):
        by_rows.append(decode_rows(*args))
        return by_rows[-1]

    with mock.patch.object(SliceDecoder, "_decode_rows", counted):
        picture = codec.decompress(data)
    assert by_rows == [True] * 3
    with mock.patch.object(SliceDecoder, "_decode_rows", return_value=False):
        np.testing.assert_array_equal(codec.decompress(data), picture)

    def whole(self, i, context, *args, **options):
        rows = [grids for _, grids in slice_params(self, i, context, *args, **options)]
        height = context.size[0]
        yield Span(0, height, 0, height), [np.concatenate(grids) for grids in zip(*rows, strict=True)]

    with mock.patch.object(TiledNetwork, "slice_params", whole):
        assert codec.compress(photograph(1300, 100)) == data


def test_a_context_that_is_not_held_gives_the_same(tall, monkeypatch):
    codec, data = tall
    picture, hyper, tiles = codec.decompress(data), tiled_network.PROGRAMS["hyper_synthesis"], []

    def counted(*args):
        tiles.append(args)
        return hyper(*args)

    monkeypatch.setattr(latent_context, "HELD_BYTES", 0)
    monkeypatch.setitem(tiled_network.PROGRAMS, "hyper_synthesis", counted)
    assert codec.compress(photograph(1300, 100)) == data
    assert len(tiles) == 4 * 3  # rows of tiles for each slice
    np.testing.assert_array_equal(codec.decompress(data), picture)


@pytest.mark.slow
def test_rows_in_two_steps_give_the_whole(tiny_config):
    """Detail slices too, which want all symbols; the decoder takes each slice as a whole."""
    details = {"levels": 3, "detail_channels": 12, "detail_from": (1.0,), "detail_width": 8}
    config = dataclasses.replace(tiny_config, checkerboard_width=8, **details)
    codec, image = Codec(drawn_weights(config, 0), coder="native", tile=512), photograph(1300, 100)
    slice_params, rows = TiledNetwork.slice_params, []

    def counted(*args, **options):
        for found in slice_params(*args, **options):
            rows.append(found[0])
            yield found

    def whole(self, i, context, *args, **options):
        rows = [grids for _, grids in slice_params(self, i, context, *args, **options)]
        height = context.size[0]
        yield Span(0, height, 0, height), [np.concatenate(grids) for grids in zip(*rows, strict=True)]

    for quality in (20, 90):
        rows.clear()
        with mock.patch.object(TiledNetwork, "slice_params", counted):
            encoded = codec.encode(image, quality)
        assert len(rows) == 4 * config.num_slices
        with mock.patch.object(TiledNetwork, "slice_params", whole):
            assert codec.compress(image, quality) == encoded.data
        np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
        with mock.patch.object(latent_context, "HELD_BYTES", 0):
            assert codec.compress(image, quality) == encoded.data
            np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.parametrize("slice_index", [0, 2])
def test_a_table_beyond_the_guard_band_is_searched_for(tall, slice_index):
    """The scale of the first tile that is nearest to a boundary, moved to just over a band on its other side."""
    codec, data = tall
    exact, first = tiled_network.PROGRAMS["slice_params"], []

    def moved(config, params, i, means, *args):
        mu, sigma, support = exact(config, params, i, means, *args)
        if i == slice_index:
            first[:] = first or [np.array(means)]
            if np.array_equal(first[0], means):
                boundaries = scale_table()[:-1]
                ratios = np.asarray(sigma)[:16, ..., None] / boundaries - 1
                *place, boundary = np.unravel_index(np.argmin(np.abs(ratios)), ratios.shape)
                side = np.sign(ratios[*place, boundary]) or 1
                sigma = np.array(sigma)
                sigma[*place] = boundaries[boundary] * (1 - side * 1.02 * BAND)
        return mu, sigma, support

    picture = codec.decompress(data)
    with mock.patch.dict(tiled_network.PROGRAMS, slice_params=moved):
        assert np.abs(codec.decompress(data).astype(int) - picture).max() <= 1
        with mock.patch.object(guard_band, "_TRIALS", 0), pytest.raises(ArithmeticMismatchError):
            codec.decompress(data)


@pytest.mark.slow
def test_tiles_that_the_codec_chooses(monkeypatch):
    """With bounds as small as can be: the decoder's picture is the encoder's, also where a layer is considered."""
    monkeypatch.setattr(tile_sizes, "LEAST_PIXELS", 640 * 640)
    monkeypatch.setattr(tile_sizes, "ENTROPY_BYTES", 0)
    monkeypatch.setattr(tiled_network, "ANALYSIS_VALUES", 0)
    monkeypatch.setattr(tiled_network, "SYNTHESIS_VALUES", 0)
    monkeypatch.setattr(picture_encoder, "LAYERED_TILE", 640)
    tile_sizes.piece_sides.cache_clear()
    tile_sizes.entropy_side.cache_clear()
    codec, image = Codec(load_weights(), coder="native"), photograph(700, 600)
    for tile, quality in ((512, 40), (640, 80)):
        encoded = codec.encode(image, quality)
        assert parse(encoded.data).tile == tile
        np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
        with mock.patch.object(latent_context, "HELD_BYTES", 0):
            assert codec.compress(image, quality) == encoded.data
            np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    tile_sizes.piece_sides.cache_clear()
    tile_sizes.entropy_side.cache_clear()
