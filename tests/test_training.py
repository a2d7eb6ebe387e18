"""Training: the loss, the two optimizers, and a run that stops and goes on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import photograph
from PIL import Image

from configs.default import make_config
from tcm_jax import checkpoint, losses, training
from tcm_jax.errors import ConfigError, WeightsError


@pytest.fixture
def config(tiny_config, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(3):
        Image.fromarray(photograph(140, 150, i)).save(pictures / f"{i}.png")
    config = make_config("test", tiny_config)
    config.data.source = f"folder:{pictures}"
    config.data.crop = 128
    config.data.batch_size = 2
    config.steps = 4
    config.log_every = 1
    config.checkpoint_every = 2
    return config


def test_rate_distortion_is_the_papers():
    x, x_hat = jnp.zeros((2, 4, 4, 3)), jnp.full((2, 4, 4, 3), 0.1)
    likelihoods = [jnp.full((2, 8), 0.25), jnp.full((2, 2), 0.5)]
    loss, parts = losses.rate_distortion(x, x_hat, likelihoods, 0.013, "mse")
    assert float(parts["bpp"]) == pytest.approx((32 + 4) / 32)
    assert float(loss) == pytest.approx(0.013 * 255**2 * 0.01 + 36 / 32, rel=1e-6)
    assert float(parts["psnr"]) == pytest.approx(20, rel=1e-6)


def test_ms_ssim_distortion():
    x = jnp.asarray(photograph(192, 192)[None], jnp.float32) / 255
    loss, parts = losses.rate_distortion(x, x, [jnp.ones(1)], 8.0, "ms_ssim")
    assert float(loss) == pytest.approx(0, abs=1e-5)
    assert float(parts["ms_ssim"]) == pytest.approx(1, abs=1e-6)


def test_quantiles_have_their_own_rate_and_no_clipping(config):
    optimizer = training.make_optimizer(config)
    params = {"entropy_bottleneck": {"quantiles": jnp.zeros(2), "biases_0": jnp.zeros(2)}}
    grads = jax.tree.map(lambda leaf: leaf + 50.0, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["entropy_bottleneck"]["quantiles"], -config.aux_learning_rate, rtol=1e-5)
    np.testing.assert_allclose(updates["entropy_bottleneck"]["biases_0"], -config.learning_rate, rtol=1e-5)


def test_clipping_is_by_the_norm_of_all_but_the_quantiles(config):
    config.clip_norm = 1e-9  # so small that Adam's epsilon shows it
    optimizer = training.make_optimizer(config)
    params = {"entropy_bottleneck": {"quantiles": jnp.zeros(1), "biases_0": jnp.zeros(1)}}
    grads = jax.tree.map(lambda leaf: leaf + 50.0, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    step = 1e-9 / (1e-9 + 1e-8)
    np.testing.assert_allclose(updates["entropy_bottleneck"]["biases_0"], -config.learning_rate * step, rtol=1e-4)
    np.testing.assert_allclose(updates["entropy_bottleneck"]["quantiles"], -config.aux_learning_rate, rtol=1e-5)


def test_schedules(config):
    config.learning_rate, config.warmup_steps, config.steps = 1.0, 10, 110
    config.schedule, config.milestones = "multistep", (50, 80)
    schedule = training.make_schedule(config)
    np.testing.assert_allclose([schedule(s) for s in (0, 5, 10, 49, 51, 79, 81)], [0, 0.5, 1, 1, 0.1, 0.1, 0.01])
    config.schedule = "cosine"
    schedule = training.make_schedule(config)
    np.testing.assert_allclose([schedule(s) for s in (5, 10, 60, 110)], [0.5, 1, 0.5, 0], atol=1e-6)
    config.schedule = "linear"
    with pytest.raises(ConfigError, match="linear"):
        training.make_schedule(config)


def test_noise_is_uniform_and_new_each_step(tiny_config):
    first, second = (training.draw_noise(tiny_config, jax.random.key(i), (4, 256, 256, 3)) for i in (0, 1))
    assert first["y"].shape == (4, 16, 16, 12)
    assert first["z"].shape == (4, 4, 4, 8)
    assert float(jnp.abs(first["y"]).max()) <= 0.5
    assert float(first["y"].std()) == pytest.approx(12**-0.5, rel=0.02)
    assert not np.array_equal(first["y"], second["y"])


def test_a_run_stops_and_goes_on(config, tmp_path, tiny_weights, monkeypatch):
    monkeypatch.setattr(training, "init_state", lambda config: training.state_of(start(tiny_weights), config))
    weights = checkpoint.load_weights(training.train(config, tmp_path / "whole"))
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {"loss", "bpp", "mse", "psnr"} <= set(lines[0])
    assert lines[0]["loss"] == pytest.approx(config.lam * 255**2 * lines[0]["mse"] + lines[0]["bpp"], rel=1e-4)
    assert not np.array_equal(
        weights.params["g_a"]["layers_6"]["kernel"], tiny_weights.params["g_a"]["layers_6"]["kernel"]
    )

    config.steps = 2
    training.train(config, tmp_path / "halves")
    config.steps = 4
    resumed = checkpoint.load_weights(training.train(config, tmp_path / "halves"))
    assert resumed.identity == weights.identity
    ema, step = checkpoint.load_run(tmp_path / "halves")
    assert step == 4
    assert checkpoint.make_weights(weights.config, ema, {}).identity == weights.identity

    config.init_from = str(tmp_path / "whole" / "weights.safetensors")
    state = training.start_from(config)
    np.testing.assert_array_equal(state.params["g_a"]["layers_6"]["bias"], weights.params["g_a"]["layers_6"]["bias"])
    config.model.atten_width = 16
    with pytest.raises(ConfigError, match="other sizes"):
        training.start_from(config)


def start(weights):
    return jax.tree.map(jnp.asarray, weights.params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.source": ""}, "--config.data.source"),
        ({"data.crop": 100}, "multiple of 128"),
        ({"distortion": "mae"}, "mae"),
        ({"model.num_slices": 5}, "slices"),
    ],
)
def test_impossible_configurations_are_refused(config, change, message):
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        training.check(config)


def test_weights_that_are_not_finite_are_not_exported(tiny_weights, tmp_path):
    params = jax.tree.map(np.copy, tiny_weights.params)
    params["g_a"]["layers_6"]["bias"][0] = np.nan
    with pytest.raises(WeightsError, match="g_a/layers_6/bias"):
        checkpoint.export(tmp_path / "w.safetensors", tiny_weights.config, params, {})
    assert not (tmp_path / "w.safetensors").exists()


def test_float16_weights_keep_their_identity(tiny_weights, tmp_path):
    path = checkpoint.export(
        tmp_path / "w.safetensors", tiny_weights.config, tiny_weights.params, {"name": "x"}, np.float16
    )
    loaded = checkpoint.load_weights(path)
    made = checkpoint.make_weights(tiny_weights.config, tiny_weights.params, {}, np.float16)
    assert loaded.identity == made.identity != tiny_weights.identity
    assert loaded.name == "x"


def test_every_configuration_is_valid():
    from configs import tcm_large, tcm_medium, tcm_small, tcm_tiny

    for module in (tcm_tiny, tcm_small, tcm_medium, tcm_large):
        config = module.get_config()
        config.data.source = "folder:x"
        training.check(config)
        assert dataclasses.asdict(training.model_config(config)) == {
            key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in config.model.items()
        }
