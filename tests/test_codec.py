"""The codec: pictures of any size come back as the encoder saw them, or an exception says why not."""

import dataclasses
import importlib.util
from unittest import mock

import numpy as np
import pytest
from conftest import drawn_weights, photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tcm_jax.codec import guard_band as guard_band_module
from tcm_jax.codec import tiled_network
from tcm_jax.codec.codec import Codec, Encoded
from tcm_jax.codec.container import MAX_GUARD_BAND, pack, parse
from tcm_jax.entropy.tables import scale_table
from tcm_jax.errors import (
    ArithmeticMismatchError,
    ConfigError,
    ImageError,
    ModelMismatchError,
    StreamError,
    WeightsError,
)
from tcm_jax.images.picture import Picture
from tcm_jax.weights.embedded import EARLIER_EMBEDDED
from tcm_jax.weights.files import make_weights

NEEDS_TFC = pytest.mark.skipif(not importlib.util.find_spec("tensorflow_compression_ops"), reason="needs the extra tfc")
BAND = 0.01  # wide enough for sides even in small pictures
SIZES = [(1, 1), (1, 300), (17, 33), (64, 64), (127, 129), (128, 128), (500, 333)]
LARGE = [pytest.param((768, 512), marks=pytest.mark.slow), pytest.param((2048, 64), marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def banded(tiny_weights) -> Codec:
    return Codec(tiny_weights, coder="native", guard_band=BAND)


@pytest.fixture(scope="module")
def encoded(banded) -> Encoded:
    return banded.encode(photograph(100, 120))


@pytest.mark.parametrize("size", [*SIZES, *LARGE], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_decoded_picture_is_the_encoders(tiny_codec, size):
    width, height = size
    image = photograph(height, width)
    encoded = tiny_codec.encode(image)
    assert tiny_codec.compress(image) == encoded.data == tiny_codec.encode(image).data
    decoded = tiny_codec.decompress(encoded.data)
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, encoded.reconstruction)
    check_size(encoded)


def check_size(encoded: Encoded) -> None:
    """Streams cost what the integer tables say; the rest of the file is its fixed cost and the sides."""
    bits = encoded.table_bits
    assert abs(8 * encoded.stream_bytes - bits) <= 0.002 * bits + 24
    assert 8 * len(encoded.data) <= 1.005 * bits + 8 * (64 + encoded.sides_bytes)
    assert 0 < encoded.estimated_bits < 2 * bits


@settings(max_examples=25, deadline=None, derandomize=True)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 128), st.integers(1, 128), st.just(3))))
def test_any_small_picture(banded, image):
    encoded = banded.encode(image)
    np.testing.assert_array_equal(banded.decompress(encoded.data), encoded.reconstruction)


def test_pictures_of_every_form(banded):
    """Grey and alpha: one channel stays one, alpha is exact, metadata comes back."""
    colour, alpha = photograph(60, 90), photograph(60, 90, seed=1)[..., 0]
    rgb = banded.decompress(banded.compress(colour))
    for image in (np.dstack([colour, alpha]), np.dstack([colour[..., :1], alpha]), colour[..., 0]):
        decoded = banded.decompress(banded.compress(image))
        assert decoded.shape == image.shape
        np.testing.assert_array_equal(decoded, banded.encode(image).reconstruction)
        if image.ndim == 3:
            np.testing.assert_array_equal(decoded[..., -1], alpha)
    np.testing.assert_array_equal(banded.decompress(banded.compress(np.dstack([colour, alpha])))[..., :3], rgb)
    grey = np.repeat(colour[..., :1], 3, axis=-1)
    mean = banded.decompress(banded.compress(grey)).mean(-1)
    assert np.abs(banded.decompress(banded.compress(grey[..., 0])) - mean).max() <= 0.5
    picture = banded.decode(banded.compress(Picture(colour, alpha, b"a profile", b"some EXIF")))
    np.testing.assert_array_equal(picture.alpha, alpha)
    assert (picture.icc, picture.exif) == (b"a profile", b"some EXIF")


def test_altered_alpha_and_metadata_are_refused(banded):
    file = parse(banded.compress(Picture(photograph(6, 9), np.zeros((6, 9), np.uint8), b"p", b"e")))
    for changes in ({"width": 8}, {"alpha": b"\0"}, {"icc": b"?"}, {"exif": file.exif[:-1]}):
        with pytest.raises(StreamError, match=r"altered: its (alpha|ICC profile|EXIF)"):
            banded.decompress(pack(dataclasses.replace(file, **changes)))


@pytest.mark.slow
def test_tiles_and_the_whole_picture_agree(tiny_weights):
    image = photograph(520, 500)
    whole, tiled = (Codec(tiny_weights, coder="native", tile=tile).encode(image) for tile in (0, 512))
    assert (parse(whole.data).tile, parse(tiled.data).tile) == (0, 512)
    assert abs(len(tiled.data) / len(whole.data) - 1) < 0.003
    error = [np.mean((e.reconstruction.astype(float) - image) ** 2) for e in (whole, tiled)]
    assert abs(10 * np.log10(error[0] / error[1])) < 0.01
    assert tiled.estimated_bits == pytest.approx(whole.estimated_bits, rel=3e-3)
    # A decoder follows the file in what must agree, and its own settings in the rest.
    one_piece = Codec(tiny_weights, coder="native", tile=0).decompress(tiled.data)
    assert np.abs(one_piece.astype(int) - tiled.reconstruction).max() <= 1


@pytest.mark.slow
def test_no_new_programs_for_a_new_large_picture(tiny_weights):
    codec = Codec(tiny_weights, coder="native", tile=512)
    codec.encode(photograph(520, 530))
    programs = list(tiled_network.PROGRAMS.values())
    before = [len(program) for program in programs]
    for height, width in ((700, 600), (1100, 520)):
        codec.encode(photograph(height, width))
    assert [len(program) for program in programs] == before
    assert len(programs) == 11  # six are of a network without detail and second steps


def test_views_are_pictures_too(tiny_codec):
    image = photograph(60, 90)
    for view in (image[:, ::-1], image.transpose(1, 0, 2), image[::2]):
        assert tiny_codec.compress(view) == tiny_codec.compress(view.copy())


def test_the_parts_of_an_encoded_picture(banded, tiny_codec, encoded):
    file = parse(encoded.data)
    assert (file.width, file.height) == (120, 100)
    assert file.model_id.hex() == banded.weights.identity[:16]
    assert len(file.stream) == encoded.stream_bytes
    assert len(file.sides) == encoded.sides_bytes - 2 > 20
    narrow = tiny_codec.encode(photograph(100, 120))
    np.testing.assert_array_equal(narrow.reconstruction, encoded.reconstruction)
    assert len(narrow.data) - narrow.sides_bytes == len(encoded.data) - encoded.sides_bytes


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4,), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.broadcast_to(np.uint8(0), (2**15, 2**15, 3)),
    ],
    ids=["float", "row", "five", "batch", "no-rows", "no-columns", "huge"],
)
def test_other_arrays_are_refused(tiny_codec, image):
    with pytest.raises(ImageError):
        tiny_codec.compress(image)


def test_what_is_no_array_is_a_type_error(tiny_codec):
    with pytest.raises(TypeError, match=r"a picture is a uint8 array, .* not list"):
        tiny_codec.compress([[[0, 0, 0]]])


def test_another_model_is_refused(tiny_config, tiny_codec, encoded):
    other = Codec(drawn_weights(tiny_config, seed=1), coder="native")
    with pytest.raises(ModelMismatchError, match=rf"{tiny_codec.model_id.hex()}.*{other.model_id.hex()} \(drawn-1\)"):
        other.decompress(encoded.data)


def test_the_message_for_an_earlier_embedded_model_says_where_it_is(tiny_codec, encoded):
    earlier, where = next(iter(EARLIER_EMBEDDED.items()))
    file = dataclasses.replace(parse(encoded.data), model_id=bytes.fromhex(earlier))
    with pytest.raises(ModelMismatchError, match=f"an earlier embedded model, in {where}"):
        tiny_codec.decompress(pack(file))


def test_a_file_with_other_slices_is_refused(banded, encoded):
    file = parse(encoded.data)
    fewer = dataclasses.replace(file, checksums=file.checksums[1:])
    with pytest.raises(StreamError, match="2 slices, its model 3"):
        banded.decompress(pack(fewer))


def test_the_pixel_limit_counts_the_padding(banded, encoded):
    assert banded.decompress(encoded.data, max_pixels=128**2).shape == (100, 120, 3)
    with pytest.raises(StreamError, match="120x100"):
        banded.decompress(encoded.data, max_pixels=128**2 - 1)


@pytest.mark.parametrize("changes", [{"coder": "cabac"}, {"guard_band": -1e-5}, {"guard_band": 0.04},
                                     {"tile": 384}, {"tile": 1000}, {"tile": -128}])  # fmt: skip
def test_senseless_settings_are_refused(tiny_weights, changes):
    with pytest.raises(ConfigError):
        Codec(tiny_weights, **changes)


def test_the_widest_guard_band_can_be_read(tiny_weights):
    codec = Codec(tiny_weights, coder="native", guard_band=MAX_GUARD_BAND)
    encoded = codec.encode(photograph(100, 120))
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.parametrize("value", [1e30, 1e38])
def test_weights_that_overflow_are_refused(tiny_config, tiny_weights, value):
    """Both infinities and NaN, of which XLA makes a harmless 0 when it converts to integers."""
    last = {"kernel": tiny_weights.params["g_a"]["layers_6"]["kernel"], "bias": np.full(12, value, np.float32)}
    params = tiny_weights.params | {"g_a": tiny_weights.params["g_a"] | {"layers_6": last}}
    codec = Codec(make_weights(tiny_config, params, {}), coder="native")
    with pytest.raises(WeightsError, match="not trained, or are damaged"):
        codec.compress(photograph(64, 64))


@NEEDS_TFC
def test_both_coders_write_the_same_file(tiny_weights, encoded):
    tfc = Codec(tiny_weights, coder="tfc", guard_band=BAND)
    assert tfc.compress(photograph(100, 120)) == encoded.data
    np.testing.assert_array_equal(tfc.decompress(encoded.data), encoded.reconstruction)


def decoded_with_noise(codec: Codec, data: bytes, relative: float, seed: int) -> np.ndarray:
    """The picture on a machine whose scales are off by up to `relative`, and whose means by up to 1e-6."""
    rng = np.random.default_rng(seed)
    exact = tiled_network.PROGRAMS["slice_params"]

    def noisy(*args):
        mu, sigma, support = exact(*args)
        noise = rng.uniform(-1, 1, (2, *mu.shape)).astype(np.float32)
        return mu + 1e-6 * noise[0], sigma * (1 + relative * noise[1]), support

    with mock.patch.dict(tiled_network.PROGRAMS, slice_params=noisy):
        return codec.decompress(data)


@pytest.mark.parametrize("band", [1e-3, BAND, MAX_GUARD_BAND])
def test_noise_within_the_guard_band_is_absorbed(tiny_weights, band):
    """A decoder that returns has the right symbols: their checksums are in the file."""
    codec = Codec(tiny_weights, coder="native", guard_band=band)
    encoded = codec.encode(photograph(100, 120))
    for seed, share in enumerate((0.5, 0.5, 0.5, 0.99, 0.99)):
        decoded = decoded_with_noise(codec, encoded.data, share * band, seed).astype(int)
        assert np.abs(decoded - encoded.reconstruction).max() <= 1


def test_without_a_guard_band_noise_is_not_absorbed(tiny_weights):
    codec = Codec(tiny_weights, coder="native", guard_band=0)
    encoded = codec.encode(photograph(100, 120))
    assert encoded.sides_bytes == 0
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    with pytest.raises(ArithmeticMismatchError):
        decoded_with_noise(codec, encoded.data, 0.5 * BAND, seed=0)


@pytest.mark.parametrize("coder", ["native", pytest.param("tfc", marks=NEEDS_TFC)])
@pytest.mark.parametrize("slice_index", [0, 1, 2])
def test_one_scale_a_little_beyond_the_guard_band_is_found(tiny_weights, encoded, coder, slice_index):
    """The scale nearest to a boundary, moved to 1.2 bands on its other side."""
    codec, exact = Codec(tiny_weights, coder=coder), tiled_network.PROGRAMS["slice_params"]

    def moved(config, params, i, *args):
        mu, sigma, support = exact(config, params, i, *args)
        if i == slice_index:
            boundaries = scale_table()[:-1]
            ratios = np.asarray(sigma)[..., None] / boundaries - 1
            *place, boundary = np.unravel_index(np.argmin(np.abs(ratios)), ratios.shape)
            side = np.sign(ratios[*place, boundary]) or 1
            sigma = np.array(sigma)
            sigma[*place] = boundaries[boundary] * (1 - side * 1.2 * BAND)
        return mu, sigma, support

    with mock.patch.dict(tiled_network.PROGRAMS, slice_params=moved):
        decoded = codec.decompress(encoded.data)
        assert np.abs(decoded.astype(int) - encoded.reconstruction).max() <= 1
        with mock.patch.object(guard_band_module, "_TRIALS", 0), pytest.raises(ArithmeticMismatchError):
            codec.decompress(encoded.data)


def test_noise_beyond_the_guard_band_is_noticed(tiny_weights):
    codec = Codec(tiny_weights, coder="native", guard_band=1e-3)
    encoded = codec.encode(photograph(100, 120))
    for seed in range(20):
        with pytest.raises(ArithmeticMismatchError, match=r"slice \d of 3 .* \(1e-03 relative\)"):
            decoded_with_noise(codec, encoded.data, 0.1, seed)


def test_noise_never_gives_a_wrong_picture(banded, encoded):
    outcomes = set()
    for seed, factor in enumerate(np.geomspace(0.8, 8, 40)):
        try:
            decoded = decoded_with_noise(banded, encoded.data, factor * BAND, seed)
        except ArithmeticMismatchError:
            outcomes.add("refused")
        else:
            outcomes.add("right")
            assert np.abs(decoded.astype(int) - encoded.reconstruction).max() <= 1
    assert outcomes == {"refused", "right"}
