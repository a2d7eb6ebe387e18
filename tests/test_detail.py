"""What a network has more than the one it begins as: levels, detail slices, a second step of each slice of y."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import drawn_weights, photograph

from configs import tcm_tiny, tcm_tiny_psnr
from configs.default import make_config
from tcm_jax.codec import Codec
from tcm_jax.codec.container import pack, parse
from tcm_jax.codec.effort import Effort, lambda_at
from tcm_jax.codec.residual import plan
from tcm_jax.codec.slice_encoder import _rounded
from tcm_jax.codec.slices import gain_level, highest_without_details
from tcm_jax.errors import ConfigError, StreamError
from tcm_jax.model.checkerboard import Checkerboard, black
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.tcm import TCM
from tcm_jax.training.extension import extend, is_extension
from tcm_jax.training.optimizer import make_schedule
from tcm_jax.training.start import random_params
from tcm_jax.training.step import make_loss
from tcm_jax.training.symbol_counts import symbol_counts
from tcm_jax.weights.files import make_weights

LAMS = (0.002, 0.01, 0.05, 0.25)
OLD_LEVELS = 2
ADDED = {"detail_channels": 8, "detail_from": (1.0, 1.5), "detail_width": 6, "checkerboard_width": 6}


@pytest.fixture(scope="module")
def old(tiny_config):
    return drawn_weights(dataclasses.replace(tiny_config, levels=OLD_LEVELS), 3)


@pytest.fixture(scope="module")
def model(tiny_config) -> ModelConfig:
    return dataclasses.replace(tiny_config, levels=len(LAMS), **ADDED)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.stack([photograph(128, 128, seed) for seed in range(12)])


@pytest.fixture(scope="module")
def config(model):
    config = make_config("test", model)
    config.level_lams = LAMS
    return config


@pytest.fixture(scope="module")
def params(config, old, model, crops):
    return extend(random_params(config), old.params, model, LAMS, crops)


def forward(model: ModelConfig, params, pictures: np.ndarray, level: float):
    at = jnp.full(len(pictures), level, jnp.float32)
    return jax.jit(TCM(model).apply)({"params": params}, pictures.astype(np.float32) / 255, level=at)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 0.6, OLD_LEVELS - 1])
def test_an_extended_network_codes_as_before_at_the_levels_that_there_were(old, model, params, crops, level):
    before, first = forward(old.config, old.params, crops[:2], level)
    now, second = forward(model, params, crops[:2], level)
    np.testing.assert_allclose(now, before, atol=2e-6)
    np.testing.assert_array_equal(second["symbols"], first["symbols"])
    np.testing.assert_allclose(second["likelihood_y"], first["likelihood_y"], rtol=1e-4)
    assert (second["likelihood_detail"] == 1).all()
    assert not second["detail_symbols"].any()


def test_gains_of_further_levels_go_on(params, old):
    table, before = params["gain_y"]["log_gain"], old.params["gain_y"]["log_gain"]
    np.testing.assert_array_equal(table[:OLD_LEVELS], before)
    assert table.shape[0] == len(LAMS)
    step = np.mean(before[1] - before[0])  # lambda goes up five times from each level to the next
    np.testing.assert_allclose(table[OLD_LEVELS:] - table[OLD_LEVELS - 1], step * np.array([[1], [2]]) + 0 * table[2:])


@pytest.mark.slow
def test_levels_over_the_first_threshold_have_one_slice_and_then_both(model, params, crops):
    half = model.detail_channels // 2
    for level, slices in ((1.25, 1), (3.0, 2)):
        _, out = forward(model, params, crops[:2], level)
        coded = np.asarray(out["likelihood_detail"]) < 1
        assert coded[..., : slices * half].mean() > 0.5
        assert not coded[..., slices * half :].any()
        assert model.detail_slices(level) == slices


def test_the_first_basis_is_orthonormal_and_detail_leaves_less_error(old, model, params, crops):
    basis = params["detail"]["forward_basis"]["kernel"]
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)
    np.testing.assert_array_equal(params["detail"]["inverse_basis"]["kernel"], basis.T)
    x = crops[:4].astype(np.float32) / 255
    network = functools.partial(TCM(model).apply, {"params": params}, level=jnp.full(4, 3.0))
    y = network(x, method="analysis")
    without = network(y, method="synthesis")
    details, made = network(x, y, method="detail_analysis")
    np.testing.assert_array_equal(made, without)
    with_detail = network(y, details, method="detailed_synthesis")
    gained = ((x - without) ** 2).mean() - ((x - with_detail) ** 2).mean()
    steps = np.exp(-np.concatenate([params["detail"][f"gain_{i}"]["log_gain"][3] for i in range(2)]))
    energy = (np.concatenate(details, axis=-1) * steps) ** 2
    assert gained == pytest.approx(energy.sum() / x.size, rel=1e-3)  # Parseval
    assert gained > 0


def test_the_second_step_sees_black_fields_alone_and_changes_white_ones_alone():
    rng = np.random.default_rng(0)
    symbols, mu, sigma = (rng.normal(size=(1, 8, 8, 2)).astype(np.float32) for _ in range(3))
    network = Checkerboard(5, 2)
    params = network.init(jax.random.key(0), symbols, mu, sigma)
    is_black = np.array(black(8, 8))[None] & np.ones(mu.shape, bool)
    after = network.apply(params, symbols, mu, sigma)
    for before, now in zip((mu, sigma), after, strict=True):
        np.testing.assert_array_equal(np.asarray(now)[is_black], before[is_black])
        assert (np.asarray(now) != before)[~is_black].all()
    white_moved = network.apply(params, np.where(is_black, symbols, 7), mu, sigma)
    np.testing.assert_array_equal(white_moved, after)
    black_moved = network.apply(params, np.where(is_black, 7, symbols), mu, sigma)
    assert (np.asarray(black_moved[0]) != np.asarray(after[0]))[~is_black].all()


@pytest.mark.slow
def test_every_parameter_of_detail_learns_and_none_at_levels_without(config, params, model, crops):
    batch = jnp.asarray(crops[:2])
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"y": (2, 8, 8, model.latent_channels), "z": (2, 2, 2, model.hyper_channels), "detail": (2, 8, 8, 8)}
    noise = {name: jax.random.uniform(key, shapes[name]) - 0.5 for name, key in zip(shapes, keys, strict=True)}
    gradient = jax.jit(jax.grad(make_loss(config), has_aux=True))
    moving = jax.tree.map(lambda leaf: leaf + 0.01, params)  # the last layers of the scales start as zeros
    for level, moves in ((3, True), (1, False)):
        grads, metrics = gradient(moving, batch, noise, jnp.full(2, float(level)))
        assert np.isfinite(metrics["loss"])
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads["detail"]):
            assert bool(np.abs(leaf).max() > 0) == moves, path
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads["checkerboard_0"]):
            assert np.abs(leaf).max() > 0, path


def test_what_is_an_extension(old, model, tiny_config):
    assert is_extension(model, old.config)
    assert is_extension(tcm_tiny_psnr.MODEL, tcm_tiny.MODEL)
    assert is_extension(dataclasses.replace(old.config, levels=3), old.config)
    for other in (
        dataclasses.replace(model, detail_from=(0.5, 1.5)),  # not silent at the last level that there was
        dataclasses.replace(model, widths=(8, 8, 16)),
        dataclasses.replace(old.config, levels=0),
    ):
        assert not is_extension(other, old.config)
    assert not is_extension(model, tiny_config)
    assert not is_extension(old.config, model)


@pytest.mark.parametrize(
    "changes",
    [
        {"detail_channels": 8},
        {"detail_from": (1.0,)},
        {"detail_channels": 7, "detail_from": (1.0, 1.5)},
        {"detail_channels": 8, "detail_from": (1.5, 1.0)},
        {"detail_channels": 8, "detail_from": (3.0,)},
        {"detail_channels": 8, "detail_from": (1.0,), "levels": 0},
    ],
)
def test_impossible_detail_is_refused(tiny_config, changes):
    with pytest.raises(ConfigError, match="detail"):
        dataclasses.replace(tiny_config, **{"levels": 4} | changes)


def test_a_configuration_without_detail_says_nothing_of_it(tiny_config, model):
    assert not [name for name in ADDED if name in tiny_config.to_json()]
    assert ModelConfig.from_dict(dataclasses.asdict(model)) == model
    assert '"detail_from": [1.0, 1.5]' in model.to_json()


def test_the_flat_schedule_falls_at_its_end(config):
    flat = config.copy_and_resolve_references()
    flat.schedule, flat.steps, flat.fall_steps, flat.warmup_steps, flat.learning_rate = "flat", 100, 20, 10, 1.0
    schedule = make_schedule(flat)
    assert [float(schedule(step)) for step in (0, 5, 10, 79, 80, 90, 100)] == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])


@pytest.fixture(scope="module")
def codec(model, params) -> Codec:
    return Codec(make_weights(model, params, {"name": "detailed"}), coder="native")


@pytest.mark.usefixtures("latents_alone")
@pytest.mark.parametrize(("quality", "slices"), [(1, 0), (34, 0), (34.01, 1), (51, 2), (100, 2)])
def test_files_have_the_slices_of_their_quality(codec, quality, slices):
    """Level 1.0 is at quality 34, 1.5 at 50.5: the level decides, in double precision."""
    encoded = codec.encode(photograph(100, 130), quality)
    assert len(parse(encoded.data).checksums) == 1 + 2 * 3 + slices
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.usefixtures("latents_alone")
def test_detail_brings_the_picture_nearer(codec):
    image = photograph(100, 130)
    errors = [
        np.mean((codec.encode(image, quality).reconstruction - image.astype(float)) ** 2) for quality in (34, 100)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(("tile", "times"), [(None, 1), (512, 2)])
def test_an_encoder_computes_g_s_once_where_it_may(model, params, tile, times, monkeypatch):
    """Whether a layer pays is seen at what the detail slices were made beside, but for tiles."""
    codec, picture = Codec(make_weights(model, params, {"name": "detailed"}), tile=tile), photograph(60, 600)
    compute, programs = codec.network.compute, []
    monkeypatch.setattr(codec.network, "compute", lambda name, *args: programs.append(name) or compute(name, *args))
    monkeypatch.setattr(plan, "choose_layer", lambda colour, latents, *_: seen.append(latents))
    seen = []
    data = codec.compress(picture, 90)
    assert times == ("detailed_synthesis" in programs) + ("detail_analysis" in programs)
    np.testing.assert_array_equal(seen[0].x_hat, codec.decompress(data))


@pytest.mark.usefixtures("latents_alone")
@pytest.mark.slow
def test_a_picture_of_several_tiles_round_trips(model, params):
    codec = Codec(make_weights(model, params, {"name": "detailed"}), coder="native", tile=512)
    encoded = codec.encode(photograph(140, 700), 100)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.slow
@pytest.mark.usefixtures("latents_alone")
@pytest.mark.parametrize("quality", [40, 100])
def test_an_effort_counts_what_the_detail_slices_code(codec, quality):
    """Bits of y and detail, and the error of both: what the search ends with is what the file has."""
    said = codec.weights.metadata | {"lambda": ", ".join(map(str, LAMS)), "distortion": "mse"}
    codec, image = Codec(dataclasses.replace(codec.weights, metadata=said), coder="native"), photograph(96, 120)
    at = np.array([gain_level(100 * quality, len(LAMS))], np.float32)
    y, z = codec.network.analyze(image, at, 1024)
    context = codec.network.hyper(_rounded(z), at, 1024).whole()
    found = codec.slice_encoder.improvement(image, 100 * quality, Effort(3))(y, context)

    def loss(effort: int) -> float:
        encoded = codec.encode(image, quality, effort=effort)
        np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
        bits = encoded.estimated_bits - codec.network.hyper_information(_rounded(z))
        error = ((encoded.reconstruction.astype(float) - image) ** 2).mean()
        return bits / image[..., 0].size + lambda_at(LAMS, at[0]) * error

    assert found < loss(0) - 1e-3
    assert loss(3) == pytest.approx(found, rel=2e-3)  # 8 bits a sample; the search has floats


def test_a_file_of_other_slices_is_refused(codec):
    file = parse(codec.compress(photograph(8, 8), 60))
    with pytest.raises(StreamError, match="8 slices, its model 6"):
        codec.decompress(pack(dataclasses.replace(file, quality=3400)))


@pytest.mark.slow
@pytest.mark.usefixtures("latents_alone")
def test_the_files_estimate_is_the_losss_rate(codec, model, params):
    """Bits of a file by its likelihoods, as the training loss counts them."""
    image = photograph(128, 128)
    _, out = forward(model, params, image[None], 3.0)
    bits = -sum(float(np.log2(value).sum()) for name, value in out.items() if name.startswith("likelihood"))
    assert codec.encode(image, 100).estimated_bits == pytest.approx(bits, rel=0.01)


@pytest.mark.usefixtures("latents_alone")
@pytest.mark.slow
def test_symbol_counts_are_of_what_each_level_codes(model, params):
    """Levels one after the other: 0 and 1 have no detail slice, 2 and 3 have both."""
    pictures = np.stack([photograph(128, 128, seed) for seed in range(len(LAMS))])
    counted = symbol_counts(model, params, [pictures])
    assert counted.sum() == 64 * (len(LAMS) * model.latent_channels + 2 * model.detail_channels)


@pytest.mark.parametrize("model", [tcm_tiny.MODEL, tcm_tiny_psnr.MODEL])
def test_the_highest_quality_without_detail(model):
    highest = highest_without_details(model)
    assert highest == 10_000 or model.detail_slices(gain_level(highest + 1, model.levels)) == 1
    assert model.detail_slices(gain_level(highest, model.levels)) == 0
