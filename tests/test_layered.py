"""Files with a residual layer: exact, within a bound, at the top of the quality scale, and on other devices."""

import dataclasses
import io
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from conftest import photograph
from golden_files import golden_codec, only_over_latents
from PIL import Image, ImageDraw

import tcm_jax.pillow_plugin
from tcm_jax.cli.info import describe
from tcm_jax.codec import search
from tcm_jax.codec.codec import Codec
from tcm_jax.codec.container import pack, parse
from tcm_jax.codec.residual import plan
from tcm_jax.codec.residual.layer import encode_layer, step_of
from tcm_jax.codec.residual.spare import spared
from tcm_jax.codec.slices import SliceCodecBase
from tcm_jax.codec.symbols import Measured
from tcm_jax.codec.tiled_network import TiledNetwork
from tcm_jax.errors import ArithmeticMismatchError, ConfigError, StreamError
from tcm_jax.images.datasets import open_dataset
from tcm_jax.images.picture import Picture
from tcm_jax.images.psnr import mean_squared_error, psnr
from tcm_jax.ops import kernels
from tcm_jax.weights.files import load_weights

PHOTOGRAPH = photograph(60, 90)
CHECKERS = np.repeat((np.indices((60, 90)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def codec() -> Codec:
    """Variable-rate weights, untrained: their latents are worth nothing."""
    return golden_codec("quality")


@pytest.fixture(scope="module")
def layered(codec) -> tuple[bytes, np.ndarray]:
    """A file with latents and a layer over them, and its picture."""
    image = np.clip(codec.decompress(codec.compress(PHOTOGRAPH, 50)) + 1, 0, 255).astype(np.uint8)
    with only_over_latents():
        encoded = codec.encode(image, max_error=5)
    assert parse(encoded.data).has_latents
    assert parse(encoded.data).layer
    return encoded.data, encoded.reconstruction


@pytest.mark.parametrize("form", ["rgb", "grey", "alpha", "grey_alpha"])
def test_lossless(codec, form):
    alpha = photograph(60, 90, seed=1)[..., :1]
    colour = PHOTOGRAPH[..., :1] if "grey" in form else PHOTOGRAPH
    image = np.concatenate([colour, alpha], 2) if "alpha" in form else colour.squeeze()
    data = codec.compress(image, max_error=0)
    np.testing.assert_array_equal(codec.decompress(data), image)
    np.testing.assert_array_equal(codec.encode(image, max_error=0).reconstruction, image)
    assert len(data) < 0.65 * image.size + 1000


def test_metadata_is_kept(codec):
    picture = codec.decode(codec.compress(Picture(PHOTOGRAPH, None, b"profile", b"EXIF"), max_error=0))
    assert (picture.icc, picture.exif) == (b"profile", b"EXIF")


@pytest.mark.parametrize("error", [0, 1, 2, 9, 127])
def test_no_sample_is_off_by_more(codec, error):
    encoded = codec.encode(PHOTOGRAPH, max_error=error)
    assert codec.compress(PHOTOGRAPH, max_error=error) == encoded.data
    decoded = codec.decompress(encoded.data)
    np.testing.assert_array_equal(decoded, encoded.reconstruction)
    assert np.abs(decoded.astype(int) - PHOTOGRAPH).max() <= error
    assert describe(encoded.data, 2**28)["max_error"] <= error
    assert encoded.layer_bytes == describe(encoded.data, 2**28)["parts"]["layer"]


@pytest.mark.parametrize(
    "turned", [np.asfortranarray, lambda image: image.swapaxes(0, 1), lambda image: image[::-1, ::2]]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_order_in_memory_does_not_matter(codec, turned, channels):
    """Prediction, repeats, latents with a layer."""
    image = (
        photograph(60, 90)[..., :1] if channels == 1 else np.dstack([photograph(60, 90), photograph(60, 90)[..., :1]])
    )
    for picture in (image[..., :channels].squeeze(), np.repeat(image[::6, ::6, :channels], 6, axis=0).squeeze()):
        other = turned(picture)
        for settings in ({"max_error": 0}, {"max_error": 9}, {"quality": 80}):
            assert codec.compress(other, **settings) == codec.compress(np.ascontiguousarray(other), **settings)


def test_weights_of_one_rate_have_a_layer_too(tiny_codec):
    for error in (0, 6):
        decoded = tiny_codec.decompress(tiny_codec.compress(PHOTOGRAPH, max_error=error))
        assert np.abs(decoded.astype(int) - PHOTOGRAPH).max() <= error


def test_the_top_of_the_scale(codec):
    """Better and larger with every quality, to exact at 100."""
    encoded = [codec.encode(PHOTOGRAPH, quality) for quality in (95.01, 96, 97, 98, 99, 100)]
    reached = [psnr(PHOTOGRAPH, e.reconstruction) for e in encoded[:-1]]
    assert reached == sorted(reached)
    assert [len(e.data) for e in encoded] == sorted(len(e.data) for e in encoded)
    np.testing.assert_array_equal(encoded[-1].reconstruction, PHOTOGRAPH)
    assert reached[-1] > 50


def test_below_the_scale_files_are_as_they_were(codec):
    """Latents alone up to 60, whatever they are worth."""
    for quality in (1, 50, 60):
        assert not parse(codec.compress(PHOTOGRAPH, quality)).layer


def test_pictures_that_latents_fail_get_the_layer(codec):
    for quality in (61, 80, 95):
        encoded = codec.encode(CHECKERS, quality)
        np.testing.assert_array_equal(encoded.reconstruction, CHECKERS)
        assert codec.compress(CHECKERS, quality) == encoded.data
        assert len(encoded.data) < 100


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (129, 40), (257, 3)])
@pytest.mark.parametrize("channels", [pytest.param((), marks=pytest.mark.slow), (3,)])
def test_pictures_of_which_a_part_is_a_row_or_a_column(codec, size, channels):
    """Estimates look at some rows, and at their neighbours, which such pictures do not have."""
    image = np.random.default_rng(0).integers(0, 256, (*size, *channels)).astype(np.uint8)
    assert 0 <= plan._bits_alone(image, 2) < 10 * image.size
    for picture in (image, np.full_like(image, 255)):
        encoded = codec.encode(picture, 80)
        np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


def test_latents_that_are_good_are_left_alone(codec):
    image = codec.decompress(codec.compress(PHOTOGRAPH, 80))
    with mock.patch.object(SliceCodecBase, "synthesize", lambda *_: image):
        assert not parse(codec.compress(image, 80)).layer


def test_any_psnr_is_reached(codec):
    for db in (30, 47, 51, 70):
        data, _ = search.compress_to_psnr(codec, Picture.of(PHOTOGRAPH), db)
        reached = np.mean((codec.decompress(data).astype(float) - PHOTOGRAPH) ** 2)
        assert reached <= 255**2 / 10 ** (db / 10)


def test_a_layer_over_latents(codec, layered):
    data, picture = layered
    np.testing.assert_array_equal(codec.decompress(data), picture)
    assert pack(parse(data)) == data


def test_a_layer_belongs_to_its_latents(codec, layered):
    file = parse(layered[0])
    other = parse(codec.compress(PHOTOGRAPH, 100 if file.quality is None else 20))
    with pytest.raises(StreamError, match="residual layer"):
        codec.decompress(pack(dataclasses.replace(other, layer=file.layer)))
    with pytest.raises(StreamError, match="residual layer"):
        alone = dataclasses.replace(file, checksums=(), stream=b"", sides=None, quality=None)
        codec.decompress(pack(alone))


def test_another_device_is_noticed_and_the_cpu_decodes(codec, layered):
    """A device that rounds x_hat otherwise, as a GPU may; then a CPU without kernels."""
    data, picture = layered
    real = SliceCodecBase.synthesize

    def off(self, *args):
        x_hat = real(self, *args)
        if self is elsewhere.slice_decoder:
            x_hat[0, 0, 0] ^= 1
        return x_hat

    elsewhere = Codec(codec.weights, coder="native", guard_band=codec.guard_band)
    with mock.patch.object(SliceCodecBase, "synthesize", off):
        with pytest.raises(StreamError, match="does not decode to the picture"):
            elsewhere.decompress(data)
        with mock.patch.object(TiledNetwork, "is_reference", property(lambda self: self is not elsewhere.network)):
            np.testing.assert_array_equal(elsewhere.decompress(data), picture)
            with (
                mock.patch.object(kernels, "available", lambda: False),
                pytest.raises(ArithmeticMismatchError, match="kernels"),
            ):
                elsewhere.decompress(data)


def test_who_cannot_compute_the_reference_writes_no_layer_over_latents(codec):
    with mock.patch.object(TiledNetwork, "is_reference", False):
        assert not parse(codec.compress(PHOTOGRAPH, max_error=20)).has_latents


def test_a_file_without_latents_needs_no_weights(codec, tiny_codec):
    data = codec.compress(PHOTOGRAPH, max_error=0)
    np.testing.assert_array_equal(tiny_codec.decompress(data), PHOTOGRAPH)
    assert describe(data, 2**28)["portable"]


def test_either_a_quality_or_an_error(codec):
    for error in (-1, 128, 0.5, "2"):
        with pytest.raises(ConfigError, match="whole number from 0 to 127"):
            codec.compress(PHOTOGRAPH, max_error=error)
    with pytest.raises(ConfigError, match="one of quality and max_error"):
        codec.compress(PHOTOGRAPH, 50, max_error=0)


def test_pillow_saves_without_loss():
    buffer = io.BytesIO()
    Image.fromarray(PHOTOGRAPH).save(buffer, "TCM", lossless=True)
    np.testing.assert_array_equal(np.asarray(Image.open(buffer)), PHOTOGRAPH)
    assert tcm_jax.compress(PHOTOGRAPH, lossless=True) == buffer.getvalue()
    near = tcm_jax.decompress(tcm_jax.compress(PHOTOGRAPH, max_error=2))
    assert 1 <= np.abs(near.astype(int) - PHOTOGRAPH).max() <= 2


def _latents(hat, size):
    """Of `size` bytes, which give `hat`."""
    return plan.Latents(hat, SimpleNamespace(stream=bytes(size)), hat, Measured())


def _cost(picture, helped, quality):
    """In bits, as `choose_layer` weighs it."""
    size = len(helped.layer.data) + (helped.latents.bytes if helped.latents else 0)
    error = mean_squared_error(picture, helped.layer.decoded)
    return 8 * size + plan.usual_lambda(quality) * picture.shape[0] * picture.shape[1] * error


def test_a_layer_goes_over_latents_that_fail_in_a_part():
    """Half of the picture is as latents should be, the other half is noise, of which they know nothing."""
    picture, rng = photograph(96, 128), np.random.default_rng(0)
    hat = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    latents = _latents(hat, picture.size // 30)
    assert plan.choose_layer(picture, latents, plan.usual_lambda(9000), pytest.fail) is None
    picture[:, 64:] = rng.integers(0, 256, (96, 64, 3))
    helped, alone = (plan.choose_layer(picture, latents, plan.usual_lambda(9000), code) for code in (pytest.fail, None))
    assert (helped.latents, alone.latents) == (latents, None)
    assert psnr(picture, helped.layer.decoded) > 31 > 15 > psnr(picture, hat)
    assert _cost(picture, helped, 9000) < _cost(picture, alone, 9000)
    coarser = plan.choose_layer(picture, latents, plan.usual_lambda(6100), pytest.fail)
    assert len(coarser.layer.data) < len(helped.layer.data)


@pytest.mark.parametrize("lam", [0.03, 0.18])
def test_the_step_of_a_layer_alone_is_the_cheapest(lam):
    """Noise takes the step of theory; of what is predicted well, a finer one costs few bits more."""
    rows, columns = np.indices((256, 256))
    smooth = (np.rint(40 * np.sin(rows / 30) + 40 * np.sin(columns / 40)) + 128).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.uint8)
    coarse = plan._efficient((12 * plan._floor(noise, lam)) ** 0.5)
    assert plan._cheapest_step_alone(noise, lam, coarse) == coarse

    def cost(step: int) -> float:
        layer = encode_layer(smooth, None, step)
        return 8 * len(layer.data) + lam * smooth.size * mean_squared_error(smooth, layer.decoded)

    step = plan._cheapest_step_alone(smooth, lam, coarse)
    assert step < coarse
    assert cost(step) < 0.9 * cost(coarse)
    assert cost(step) < 1.2 * min(map(cost, range(2, coarse + 1, 2)))


@pytest.mark.parametrize("channels", [(), (3,)])
def test_noise_that_costs_latents_more_than_a_layer_gets_one_as_good(channels):
    """Latents code noise well at the highest qualities, but in more bytes than the noise's samples have."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (96, 128, *channels)).astype(np.uint8)
    hat = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    dear, cheap = _latents(hat, picture.size), _latents(hat, picture.size // 2)
    helped = plan.choose_layer(picture, dear, 0.4, pytest.fail)
    assert helped.latents is None and len(helped.layer.data) < dear.bytes
    assert psnr(picture, helped.layer.decoded) >= psnr(picture, hat)
    assert plan.choose_layer(picture, cheap, 0.4, pytest.fail) is None


@pytest.mark.parametrize("quality", [6100, 8000, 9500])
def test_the_step_suits_a_pattern(quality):
    """Latents of one-pixel checkers are grey, off by 127 and 128: four steps of 32 leave next to nothing."""
    picture = photograph(96, 128)
    hat = np.clip(picture + np.random.default_rng(0).normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    picture[:48, :48], hat[:48, :48] = CHECKERS[:48, :48], 128
    latents = _latents(hat, picture.size // 30)
    helped = plan.choose_layer(picture, latents, plan.usual_lambda(quality), lambda _: latents)
    assert (helped.latents, step_of(helped.layer.data)) == (latents, 32)
    assert psnr(picture, helped.layer.decoded) > 37


def test_a_file_with_latents_that_fail_in_a_part(codec):
    """What `choose_layer` chooses is what the file holds, and decodes."""
    image = PHOTOGRAPH.copy()
    image[:, 45:] = np.random.default_rng(0).integers(0, 256, (60, 45, 3))
    for beside in (True, False):

        def choose(colour, latents, lam, code, beside=beside):
            return plan.Choice(
                encode_layer(colour, latents.x_hat if beside else None, 20), latents if beside else None, 20
            )

        with mock.patch.object(plan, "choose_layer", choose):
            encoded = codec.encode(image, 80)
        assert parse(encoded.data).has_latents == beside
        np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
        assert np.abs(encoded.reconstruction.astype(int) - image).max() <= 10


@pytest.mark.slow
@pytest.mark.parametrize("quality", [61, 95])
def test_latents_are_spared_a_pattern(quality):
    """One-pixel stripes beside a photograph cost next to nothing, and come back better than the photograph."""
    codec, image = Codec(load_weights(tune="psnr")), np.zeros((160, 320, 3), np.uint8)
    image[:, :160], image[:, 161::2] = open_dataset("samples")[0][100:260, 100:260], 255
    encoded, half = codec.encode(image, quality), codec.encode(image[:, :160], quality)
    assert encoded.layer_bytes and encoded.stream_bytes < 1.2 * half.stream_bytes
    assert len(encoded.data) < 1.9 * len(half.data)
    assert psnr(image[:, 176:], encoded.reconstruction[:, 176:]) > 31
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_at_a_low_quality_text_is_exact_and_small(channels):
    """Latents take more bytes for smeared letters."""
    page = Image.new("L", (256, 128), 255)
    ImageDraw.Draw(page).multiline_text((8, 8), "\n".join(["The quick brown fox jumps over the lazy dog."] * 6))
    image = np.asarray(page).repeat(np.prod(channels, dtype=int)).reshape(128, 256, *channels)
    codec = Codec(load_weights(), coder="native")
    encoded = codec.encode(image, 10)
    np.testing.assert_array_equal(encoded.reconstruction, image)
    np.testing.assert_array_equal(codec.decompress(encoded.data), image)
    with mock.patch.object(plan, "is_tried", lambda colour, lam: False):
        assert len(encoded.data) < len(codec.compress(image, 10))


def test_which_pictures_are_tried():
    """Drawn ones at any quality, others above 60, where lambda is larger; none without a lambda."""
    drawn = PHOTOGRAPH.copy()
    drawn[:, : drawn.shape[1] // 2] = 200
    assert [plan.is_tried(PHOTOGRAPH, lam) for lam in (0.0, 0.001, 0.02)] == [False, False, True]
    assert [plan.is_tried(drawn, lam) for lam in (0.0, 0.001, 0.02)] == [False, True, True]
    assert not plan.is_tried(PHOTOGRAPH[:1, :1], 0.001)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_what_latents_get_instead_is_smooth(channels):
    """A block that fails and repeats gets the colours around it; noise and what does not fail stay."""
    flat = np.full((50, 70, *channels), 100, np.uint8)
    striped, noisy = flat.copy(), flat.copy()
    striped[16:32, 33:48:2] = 250
    noisy[16:32, 33:48] = np.random.default_rng(0).integers(0, 256, noisy[16:32, 33:48].shape)
    np.testing.assert_array_equal(spared(striped, flat, 50.0), flat)
    assert spared(striped, striped, 50.0) is None
    assert spared(noisy, flat, 50.0) is None


def test_a_layer_is_tried_where_it_may_pay():
    """Flat areas alone are no reason: rocket.jpg repeats itself in its sky, and its layer would be far larger."""
    half = PHOTOGRAPH.copy()
    half[: len(half) // 2] = 200
    pixels = half.shape[0] * half.shape[1]
    assert not plan._may_pay(PHOTOGRAPH, 10 * pixels)  # nothing repeats
    assert not plan._may_pay(half, pixels // 16)
    assert plan._may_pay(half, pixels // 4)
