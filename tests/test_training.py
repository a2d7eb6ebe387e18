"""A training run: it stops, goes on, and refuses what cannot be trained."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import photograph
from PIL import Image

from configs.default import make_config
from tcm_jax import checkpoint, step, training
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


def test_a_run_stops_and_goes_on(config, tmp_path, tiny_weights, monkeypatch):
    monkeypatch.setattr(training, "init_state", lambda config: step.state_of(start(tiny_weights), config))
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
    ema, steps = checkpoint.load_run(tmp_path / "halves")
    assert steps == 4
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
        assert dataclasses.asdict(step.model_config(config)) == {
            key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in config.model.items()
        }
