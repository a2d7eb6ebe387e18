"""Effort: the search lowers the loss, draws as it should, and what it found is what the file holds."""

import dataclasses
import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import drawn_weights, photograph
from PIL import Image

import tcm_jax
from tcm_jax import cli, pillow_plugin
from tcm_jax.cli.effort_bar import effort_bar
from tcm_jax.codec import Codec, annealing, refinement, search
from tcm_jax.codec.container import parse
from tcm_jax.codec.effort import Effort, lambda_of
from tcm_jax.codec.picture_encoder import lambda_at_quality
from tcm_jax.codec.residual import plan
from tcm_jax.codec.residual.layer import encode_layer
from tcm_jax.codec.slice_encoder import SliceEncoder, _rounded
from tcm_jax.errors import ConfigError, ImageError
from tcm_jax.evaluation.command import operating_points
from tcm_jax.evaluation.measure import TcmMeter, quality_of
from tcm_jax.images.picture import Picture
from tcm_jax.images.pictures import write_png
from tcm_jax.images.psnr import psnr
from tcm_jax.weights import files

IMAGE = photograph(200, 100)  # 256x128 padded: one shape of program for all tests
LAMBDAS, LAM = "0.00001, 0.0001, 0.001", 0.0001  # so that bits and error weigh about as much
MID = 50.5  # quality of the middle level


@pytest.fixture(scope="module")
def weights(tiny_config):
    """Of a network that compiles quickly: two slices, no attention; with levels and a second step of each slice."""
    sizes = {"num_slices": 2, "latent_channels": 8, "blocks": "cnn", "attention": "none"}
    drawn = drawn_weights(dataclasses.replace(tiny_config, levels=3, checkerboard_width=6, **sizes), 1)
    return dataclasses.replace(drawn, metadata=drawn.metadata | {"lambda": LAMBDAS, "distortion": "mse"})


@pytest.fixture(scope="module")
def codec(weights):
    return Codec(weights, coder="native")


def searched(codec, picture, level, **settings):
    """(latents before, latents after, what the search returned, its losses)."""
    at, losses = np.array([1.0], np.float32), []
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
    y, z = codec.network.analyze(colour, at, 1024)
    context = codec.network.hyper(_rounded(z), at, 1024).whole()
    before = [part.copy() for part in y]
    settings = {"tune": "psnr"} | settings
    wanted = Effort(level, on_step=lambda done, total, loss: losses.append((done, total, loss)), **settings)
    found = refinement.refine(codec.network, picture, at, lambda_of(codec.weights, 1.0), wanted, y, context)
    return before, y, found, losses


# The draw


def draws(share: float, temperature: float, count: int = 20_000) -> np.ndarray:
    noise = jax.random.logistic(jax.random.key(0), (count,), jnp.float32)
    residual = jnp.full((count,), 3 + share, jnp.float32)
    return np.asarray(annealing.drawn(residual, jnp.float32(temperature), noise))


def test_the_draws_mean_is_between_the_integers_and_symmetric():
    middle = draws(0.5, 0.25)
    assert middle.mean() == pytest.approx(3.5, abs=0.01)
    assert middle.std() > 0.4  # nearly all at one of the two
    assert (draws(0.3, 0.25).mean() + draws(0.7, 0.25).mean()) / 2 == pytest.approx(3.5, abs=0.01)


@pytest.mark.parametrize("temperature", [0.25, 0.1])
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_the_share_of_each_integer_is_the_gumbel_one(share, temperature):
    """The probability of the upper integer is a logistic function of the difference of the logarithms."""
    logit = (np.arctanh(share) - np.arctanh(1 - share)) / temperature
    expected = 1 / (1 + np.exp(-logit))
    assert (draws(share, temperature) > 3.5).mean() == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(("share", "integer"), [(0.0, 3), (1e-3, 3), (0.999, 4)])
def test_near_an_integer_the_draw_is_that_integer(share, integer):
    np.testing.assert_allclose(draws(share, 0.1), integer, atol=1e-6)


def test_cold_draws_are_rounding():
    np.testing.assert_allclose(draws(0.45, 0.002), 3, atol=1e-3)
    np.testing.assert_allclose(draws(0.55, 0.002), 4, atol=1e-3)


def test_the_schedule_ends_cold_and_slow():
    first, middle, last = (annealing.schedule(step, 101) for step in (0, 50, 100))
    assert [float(s["temperature"]) for s in (first, last)] == pytest.approx([0.25, 0.1])
    assert float(middle["temperature"]) == pytest.approx(np.sqrt(0.25 * 0.1))
    assert [float(s["rate"]) for s in (first, last)] == pytest.approx([0.012, 0.0006])
    assert annealing.schedule(0, 1)["rate"] == np.float32(0.012)


# The search


def test_the_loss_falls_and_the_file_holds_what_was_found(codec):
    """Rate and distortion of the file's own reconstruction are those that the search ended with."""
    _, _, found, losses = searched(codec, IMAGE, 2)
    assert [(done, total) for done, total, _ in losses] == [(i, 16) for i in range(1, 17)]
    assert losses[-1][2] < losses[0][2]
    plain, encoded = codec.encode(IMAGE, MID), codec.encode(IMAGE, MID, effort=2)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    assert encoded.data == codec.compress(IMAGE, MID, effort=2) != plain.data
    assert found < searched_loss(codec, plain) - 1e-4
    assert searched_loss(codec, encoded) == pytest.approx(found, rel=2e-3)  # 8 bits a sample; the search has floats


def searched_loss(codec, encoded) -> float:
    """The search's loss of an encoded IMAGE: bits of y and lambda times the squared error, a pixel."""
    symbols_of_z = _rounded(codec.network.analyze(IMAGE, np.array([1.0], np.float32), 1024)[1])
    bits = encoded.estimated_bits - codec.network.hyper_information(symbols_of_z)
    error = np.mean((encoded.reconstruction.astype(float) - IMAGE) ** 2)
    return bits / (IMAGE.shape[0] * IMAGE.shape[1]) + LAM * error


def test_nothing_rounds_between_the_search_and_the_coder(codec, monkeypatch):
    """The coder's symbols are those of the search to the last one, though its means differ in the last bits."""
    seen, latents = [], SliceEncoder._encode_slice

    def spy(self, i, y_slice, *args):
        seen.append(y_slice.copy())
        return latents(self, i, y_slice, *args)

    monkeypatch.setattr(SliceEncoder, "_encode_slice", spy)
    codec.compress(IMAGE, MID, effort=2)
    _, after, _, _ = searched(codec, IMAGE, 2)
    for coded, found in zip(seen, after, strict=True):
        np.testing.assert_array_equal(coded, found)
    at = np.array([1.0], np.float32)
    context = codec.network.hyper(_rounded(codec.network.analyze(IMAGE, at, 1024)[1]), at, 1024)
    mu, sigma, _ = codec.network.whole_slice_params(0, context, [], 1024)
    known = _rounded(after[0] - np.asarray(mu))
    residual = after[0] - np.asarray(codec.network.second_step(0, known, mu, sigma, 1024)[0])
    assert np.abs(residual - np.rint(residual)).max() < 1e-3  # each lies where no last bit can flip it


def test_a_search_is_deterministic_and_follows_its_seed(codec, monkeypatch):
    first, again = (searched(codec, IMAGE, 1)[1] for _ in range(2))
    monkeypatch.setattr(refinement, "SEED", 1)
    other = searched(codec, IMAGE, 1)[1]
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


def test_the_start_is_kept_where_it_was_better(codec, monkeypatch):
    monkeypatch.setattr(annealing, "FASTEST", 30.0)  # so that the search is lost
    _, _, found, _ = searched(codec, IMAGE, 1)
    monkeypatch.undo()
    assert codec.network is not None
    plain = codec.encode(IMAGE, MID)
    assert found == pytest.approx(searched_loss(codec, plain), rel=2e-3)
    monkeypatch.setattr(annealing, "FASTEST", 30.0)
    assert codec.compress(IMAGE, MID, effort=1) == plain.data


def test_padding_does_not_count(codec):
    """What lies beyond the picture's last row has no part in the loss, so its latents fall to the cheapest."""
    tile = refinement._tile(IMAGE, [np.zeros((16, 8, 1))] * 2, *next(refinement.tiles((256, 128), (0, 0), 0)))
    assert tile["counted"].sum() == 200 * 100
    assert tile["counted"][199, 99, 0] and not tile["counted"][200].any() and not tile["counted"][:, 100].any()
    assert tile["free"].all() and tile["rated"].all()
    at = np.array([1.0], np.float32)
    losses = []
    for value in (0, 255):  # of the padding alone
        padded = tile["picture"].copy()
        padded[200:], padded[:, 100:] = value, value
        y, z = codec.network.analyze(IMAGE, at, 1024)
        means, scales = codec.network.hyper(_rounded(z), at, 1024).whole()
        whole = np.concatenate(y, axis=-1)
        state = {"y": whole, "m": np.zeros_like(whole), "v": np.zeros_like(whole)}
        settings = annealing.schedule(0, 2) | {"step": np.int32(0), "hard": np.bool_(False), "lam": np.float32(LAM)}
        settings |= {"grey": np.bool_(False), "key": np.zeros(2, np.uint32)}
        given = tile | {"picture": padded, "means": means, "scales": scales}
        loss, _, _ = annealing.iterate(codec.weights.config, codec.network.params, 0, 0, given, state, settings, at)
        losses.append(float(loss))
    assert losses[0] == losses[1]


def test_tiles_keep_their_neighbours_and_leave_no_seam(codec, monkeypatch):
    """Two tiles: the symbols of each side are searched for beside those that the other has in the end."""
    monkeypatch.setattr(refinement, "SIDE", 256)
    monkeypatch.setattr(refinement, "HALO", 64)
    picture = photograph(384, 100, 3)
    before, after, _, losses = searched(codec, picture, 2)
    assert losses[-1][:2] == (32, 32)
    changed = [np.abs(a - b).max(axis=(1, 2)) > 0.01 for a, b in zip(after, before, strict=True)]
    assert np.any(changed, axis=0).all()  # in every row of latents
    encoded, plain = codec.encode(picture, MID, effort=2), codec.encode(picture, MID)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    error = [((x.reconstruction.astype(float) - picture) ** 2).mean((1, 2)) for x in (plain, encoded)]
    border = slice(160, 224)  # around the row where the tiles meet, 192
    assert error[1][border].mean() / error[0][border].mean() < 1.1 * error[1].mean() / error[0].mean()
    bits = [x.estimated_bits for x in (plain, encoded)]
    cost = [b / picture[..., 0].size + LAM * e.mean() for b, e in zip(bits, error, strict=True)]
    assert cost[1] < cost[0]


def test_frozen_latents_stay(codec):
    rows = refinement.Span(0, 256, 0, 128)
    columns = refinement.Span(0, 128, 0, 128)
    tile = refinement._tile(IMAGE, [np.zeros((16, 8, 1))] * 2, rows, columns)
    assert tile["free"][:8].all() and not tile["free"][8:].any()
    assert tile["rated"][:12].all() and not tile["rated"][12:].any()
    assert tile["counted"][191, 0, 0] and not tile["counted"][192:].any()


# Settings


@pytest.mark.parametrize("level", [-1, 10, 2.5, "3", None, True])
def test_other_efforts_are_refused(level):
    with pytest.raises(ConfigError, match="from 0 to 9"):
        Effort(level)


def test_steps_double():
    assert [Effort(level).steps for level in range(10)] == [0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]
    with pytest.raises(ConfigError, match="tuned for psnr, ms-ssim, ssimulacra2, visual, not 'vmaf'"):
        Effort(3, "vmaf")


def test_lambdas(weights):
    assert lambda_of(weights, 0.5) == pytest.approx(LAM / 10**0.5)
    assert lambda_of(weights, 2.0) == pytest.approx(10 * LAM)
    as_ms_ssim = dataclasses.replace(
        weights, metadata=weights.metadata | {"distortion": "ms_ssim", "lambda": "4, 8, 16"}
    )
    assert 0.005 < lambda_of(as_ms_ssim, 1.0) < 0.008  # as many bits as 0.0067
    for metadata in ({}, {"lambda": "0.1"}, {"lambda": "much, more, most"}, {"lambda": LAMBDAS, "distortion": "taste"}):
        with pytest.raises(ConfigError, match="`tcm convert --lambda` writes it"):
            lambda_of(dataclasses.replace(weights, metadata=metadata), 1.0)


def test_a_layer_has_the_lambda_of_weights_of_one_rate(weights):
    one_rate = dataclasses.replace(weights, config=dataclasses.replace(weights.config, levels=0), metadata={})
    assert lambda_at_quality(one_rate, 10_000) == plan.usual_lambda(10_000)
    assert lambda_at_quality(dataclasses.replace(one_rate, metadata={"lambda": "0.0067"}), 10_000) == pytest.approx(
        0.0067
    )


def test_effort_0_is_the_plain_encoder(codec):
    plain = codec.compress(IMAGE, MID)
    assert codec.compress(IMAGE, MID, effort=0) == codec.compress(IMAGE, MID, effort=Effort(0, "ms-ssim")) == plain


# In use


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("weights") / "drawn.safetensors"
    files.save_weights(path, weights)
    return str(path)


def test_every_way_in_gives_the_same_file(codec, weights_file, tmp_path, capsys):
    data = codec.compress(IMAGE, MID, effort=1)
    assert tcm_jax.compress(IMAGE, quality=MID, weights=weights_file, effort=1) == data
    pillow_plugin.use_weights(weights_file)
    try:
        buffer = io.BytesIO()
        Image.fromarray(IMAGE).save(buffer, "TCM", quality=MID, effort=1, tune="psnr")
    finally:
        pillow_plugin.use_weights(None)
    assert buffer.getvalue() == data
    write_png(tmp_path / "a.png", IMAGE)
    argv = ["compress", str(tmp_path / "a.png"), "--weights", weights_file, "--quality", str(MID), "--verify", "--json"]
    assert cli.main([*argv, "--effort", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == len(data)
    assert (tmp_path / "a.tcm").read_bytes() == data


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    with effort_bar(True) as on_step:
        assert on_step is None  # this is none
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with effort_bar(False) as on_step:
        assert on_step is None
    with effort_bar(True) as on_step:
        on_step(1, 8, 1.5)
        on_step(2, 8, 1.25)
    shown = capsys.readouterr().err
    assert "2/8" in shown
    assert "loss 1.2500" in shown


def test_without_a_lambda_one_sentence_says_so(weights):
    unknown = Codec(dataclasses.replace(weights, metadata={}), coder="native")
    with pytest.raises(ConfigError, match="do not say the lambda"):
        unknown.compress(IMAGE, MID, effort=1)


def test_small_pictures_have_no_ms_ssim(codec):
    with pytest.raises(ImageError, match="more than 128 pixels a side"):
        codec.compress(IMAGE, MID, effort=Effort(1, "ms-ssim"))


def test_a_layer_on_top_is_right(codec):
    """What a layer adds to is the reconstruction of the searched latents."""
    encoded = codec.encode(IMAGE, 97, effort=1)
    file = parse(encoded.data)
    decoded = codec.decompress(encoded.data)
    np.testing.assert_array_equal(decoded, encoded.reconstruction)
    assert (
        np.abs(decoded.astype(int) - IMAGE).max()
        <= plan.step_of_quality(9700, lambda_at_quality(codec.weights, plan.LAYER_FROM)) // 2
    )
    assert file.layer


@pytest.mark.parametrize("quality", [80, 97])
def test_a_picture_with_a_layer_is_searched_once(codec, monkeypatch, quality):
    """Latents that were only tried are not searched for."""
    steps = []

    def choose(colour, latents, lam, code):
        return plan.Choice(encode_layer(colour, latents.x_hat, 20), code(colour), 20)

    monkeypatch.setattr(plan, "choose_layer", choose)
    monkeypatch.setattr(plan, "spared_latents", lambda colour, latents, lam, code: code(colour))
    monkeypatch.setattr(plan, "is_tried", lambda *_: True)
    effort = Effort(1, on_step=lambda done, total, loss: steps.append((done, total)))
    encoded = codec.encode(IMAGE, quality, effort=effort)
    assert steps == [(i, 8) for i in range(1, 9)]
    assert encoded.layer_bytes
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


def test_targets_are_met(codec):
    picture = Picture.of(IMAGE)
    pixels = IMAGE.shape[0] * IMAGE.shape[1]
    bpp = 8 * len(codec.compress(IMAGE, 30)) / pixels
    data, quality = search.compress_to_bpp(codec, picture, bpp, effort=1)
    assert bpp * 0.97 < 8 * len(data) / pixels <= bpp
    assert data == codec.compress(IMAGE, quality, effort=1)
    db = psnr(IMAGE, codec.encode(IMAGE, 30).reconstruction)
    data, quality = search.compress_to_psnr(codec, picture, db, effort=1)
    assert psnr(IMAGE, codec.decompress(data)) >= db
    assert data == codec.compress(IMAGE, quality, effort=1)


def test_efforts_are_curves_of_an_evaluation(codec, weights_file):
    points = operating_points([weights_file], [], [20.0, 60.0], efforts=[0.0, 3.0], tune="ssimulacra2")
    assert [(point.effort, point.quality) for point in points] == [(0, 20), (0, 60), (3, 20), (3, 60)]
    with pytest.raises(ConfigError, match="from 0 to 9"):
        operating_points([weights_file], [], None, efforts=[2.5])
    row, _ = TcmMeter(codec).measure("a", IMAGE, MID, Effort(1))
    assert row["bytes"] == len(codec.compress(IMAGE, MID, effort=1))


@pytest.mark.parametrize("level", [0, 1])
def test_grey_pictures_are_searched_as_grey(codec, level):
    """The distortion is of the mean of the channels, which is what a grey file decodes to."""
    grey = IMAGE[..., 0]
    encoded = codec.encode(grey, MID, effort=level)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    if level:
        *_, found, _ = searched(codec, grey, level)
        at = np.array([1.0], np.float32)
        z = _rounded(codec.network.analyze(np.repeat(grey[..., None], 3, axis=-1), at, 1024)[1])
        bits = encoded.estimated_bits - codec.network.hyper_information(z)
        error = np.mean((encoded.reconstruction.astype(float) - grey) ** 2)
        assert bits / grey.size + LAM * error == pytest.approx(found, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("tune", "metric"), [("psnr", "psnr"), ("ms-ssim", "ms_ssim"), ("ssimulacra2", "ssimulacra2")])
def test_each_tune_gains_on_its_own_metric(tune, metric):
    """With the embedded model: bits and metric together are better than the plain encoder's."""
    codec, image = Codec(files.load_weights(), coder="native"), photograph(256, 256, 2)
    plain, encoded = codec.encode(image, 40), codec.encode(image, 40, effort=Effort(5, tune))
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    before, after = (quality_of(image, each.reconstruction)[metric] for each in (plain, encoded))
    finer = codec.encode(image, 41)
    slope = (quality_of(image, finer.reconstruction)[metric] - before) / (len(finer.data) - len(plain.data))
    assert after - before > slope * (len(encoded.data) - len(plain.data))  # more than the same bytes buy otherwise


@pytest.mark.slow
def test_the_papers_network_is_searched_too(tiny_weights):
    """One rate, no second step, attention in the slices."""
    fixed = dataclasses.replace(tiny_weights, metadata={"lambda": "0.01", "distortion": "mse"})
    codec = Codec(fixed, coder="native")
    plain, encoded = codec.encode(IMAGE), codec.encode(IMAGE, effort=3)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    error = [((each.reconstruction.astype(float) - IMAGE) ** 2).mean() for each in (plain, encoded)]
    cost = [b.estimated_bits / IMAGE[..., 0].size + 0.01 * e for b, e in zip((plain, encoded), error, strict=True)]
    assert cost[1] < cost[0]
