"""Variable rate: gain units, the quality in the file, and a network of one rate as the special case of ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import drawn_weights, photograph
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import default
from tcm_jax.codec import Codec, codec
from tcm_jax.codec.container import pack, parse
from tcm_jax.codec.streams import StreamWriter
from tcm_jax.entropy import tables
from tcm_jax.errors import ConfigError, ModelMismatchError, StreamError
from tcm_jax.model.layers.gain import Gain
from tcm_jax.model.tcm import TCM
from tcm_jax.training.symbol_counts import symbol_counts
from tcm_jax.training.validation import validate
from tcm_jax.weights.files import make_weights
from tcm_jax.weights.weights import Weights

LEVELS = 3


class OnePicture(list):
    """A source of one picture."""

    def __init__(self, picture):
        super().__init__([picture])

    def name(self, index):
        return str(index)


def with_gains(weights: Weights, log_gains: list[float]) -> Weights:
    """Weights of the variable-rate network whose gains are `log_gains` by level, and whose inverse gains undo them."""
    config = dataclasses.replace(weights.config, levels=len(log_gains))
    flat = flatten_dict(weights.params, sep="/")
    for name, channels in (("y", config.latent_channels), ("z", config.hyper_channels)):
        table = np.repeat(np.array(log_gains, np.float32)[:, None], channels, axis=1)
        flat |= {f"gain_{name}/log_gain": table, f"inverse_gain_{name}/log_gain": -table}
    return make_weights(config, unflatten_dict(flat, sep="/"), {"name": "variable"})


@pytest.fixture(scope="module")
def variable(tiny_weights) -> Codec:
    return Codec(with_gains(tiny_weights, [-1.5, -0.5, 0.5]), coder="native")


def test_gains_are_interpolated_geometrically():
    table = np.log(np.array([[1.0, 2.0], [4.0, 2.0], [16.0, 8.0]], np.float32))
    x = np.ones((4, 2, 3, 2), np.float32)
    gained = Gain(3).apply({"params": {"log_gain": table}}, x, jnp.array([0.0, 0.5, 1.5, 2.0]))
    np.testing.assert_allclose(gained[:, 1, 2], [[1, 2], [2, 2], [8, 4], [16, 8]], rtol=1e-6)


def test_a_variable_rate_network_wants_a_level(variable):
    network, params, x = TCM(variable.weights.config), {"params": variable.weights.params}, jnp.zeros((1, 128, 128, 3))
    for arguments in ({}, {"method": "analysis"}):
        with pytest.raises(ValueError, match=r"needs `level`, float \[B\] in 0 \.\. 2"):
            jax.eval_shape(functools.partial(network.apply, **arguments), params, x)


@pytest.mark.parametrize("distortion", ["mse", "ms_ssim"])
def test_validation_weighs_files_by_the_lambda_of_their_quality(variable, distortion):
    config = default.make_config("test", variable.weights.config)
    lams = (0.001, 0.02, 0.3)
    config.level_lams, config.distortion, config.lam = lams, distortion, 7.0
    picture = photograph(170, 180)
    row, (decoded,) = validate(variable.weights, OnePicture(picture), config)
    lam = lams[1] * (lams[2] / lams[1]) ** (54 / 99 * 2 - 1)  # quality 55, between 1 and 100
    error = 255**2 * row["mse"] if distortion == "mse" else 1 - row["ms_ssim"]
    assert row["loss"] == pytest.approx(lam * error + row["bpp"], rel=1e-5)
    np.testing.assert_array_equal(decoded, variable.encode(picture, 55).reconstruction)


@pytest.mark.usefixtures("latents_alone")
def test_gains_of_one_are_the_network_of_one_rate(tiny_weights, tiny_codec):
    ones = Codec(with_gains(tiny_weights, [0.0] * LEVELS), coder="native")
    for seed, quality in enumerate((1, 37.5, 100)):
        image = photograph(100, 120, seed)
        file, fixed = parse(ones.compress(image, quality)), parse(tiny_codec.compress(image))
        assert file.stream == fixed.stream
        assert file.checksums == fixed.checksums
    np.testing.assert_array_equal(ones.encode(image, quality).reconstruction, tiny_codec.encode(image).reconstruction)


@pytest.mark.usefixtures("latents_alone")
@pytest.mark.parametrize("quality", [1, 1.004, 42.42, 99.99, 100])
def test_every_quality_round_trips(variable, quality):
    image = photograph(100, 120)
    encoded = variable.encode(image, quality)
    assert parse(encoded.data).quality == round(100 * quality)
    np.testing.assert_array_equal(variable.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.usefixtures("latents_alone")
def test_larger_gains_give_more_bytes(variable):
    image = photograph(100, 120)
    sizes = [len(variable.compress(image, quality)) for quality in (1, 25, 50, 75, 100)]
    assert sizes == sorted(set(sizes))
    assert variable.compress(image) == variable.compress(image, 55)


@pytest.mark.usefixtures("latents_alone")
def test_symbol_counts_are_of_what_the_codec_codes(variable, monkeypatch):
    """One picture after the other with one level after the other; sums of another program move a few symbols."""
    pictures = np.stack([photograph(128, 128, seed) for seed in range(LEVELS + 1)])
    counted = symbol_counts(variable.weights.config, variable.weights.params, [pictures[:2], pictures[2:]])
    written = []
    monkeypatch.setattr(StreamWriter, "write", lambda _, indexes, symbols: written.append((indexes, symbols)))
    monkeypatch.setattr(codec, "pack", lambda _: b"")
    monkeypatch.setattr(codec, "Container", lambda **_: None)
    for picture, quality in zip(pictures, (1, 50.5, 100, 1), strict=True):
        Codec(variable.weights, coder="native", guard_band=0).compress(picture, quality)
    coded = np.zeros_like(counted)
    for indexes, symbols in written:
        if indexes.max() < len(coded):  # not z
            np.add.at(coded, (indexes, symbols + tables.REACH), 1)
    assert counted.sum() == coded.sum() == pictures[..., 0].size // 256 * variable.weights.config.latent_channels
    assert np.abs(counted - coded).sum() <= 0.01 * coded.sum()


@pytest.mark.parametrize("quality", [0.9, 100.01, -1, float("nan")])
def test_qualities_out_of_range_are_refused(variable, quality):
    with pytest.raises(ConfigError, match="from 1 to 100"):
        variable.compress(photograph(8, 8), quality)


def test_a_network_of_one_rate_has_no_quality(tiny_codec):
    with pytest.raises(ConfigError, match="one rate"):
        tiny_codec.compress(photograph(8, 8), 50)


def test_files_and_weights_must_be_of_one_kind(variable, tiny_codec):
    data = tiny_codec.compress(photograph(8, 8))
    with pytest.raises(ModelMismatchError):
        variable.decompress(data)
    altered = dataclasses.replace(parse(data), model_id=variable.model_id)
    with pytest.raises(StreamError, match="variable-rate"):
        variable.decompress(pack(altered))


def test_old_identities_stay(tiny_config):
    assert "levels" not in tiny_config.to_json()
    assert '"levels": 3' in dataclasses.replace(tiny_config, levels=3).to_json()
    assert type(tiny_config).from_dict({**dataclasses.asdict(tiny_config), "levels": 3}).levels == 3
    values = dataclasses.asdict(tiny_config)
    del values["levels"]
    assert type(tiny_config).from_dict(values) == tiny_config
    with pytest.raises(ConfigError, match="levels is 1; give at least 2"):
        dataclasses.replace(tiny_config, levels=1)


def test_variable_weights_survive_a_file(tiny_config, tmp_path):
    from tcm_jax.weights import files

    weights = drawn_weights(dataclasses.replace(tiny_config, levels=LEVELS), 0)
    files.save_weights(tmp_path / "w.safetensors", weights)
    assert files.load_weights(tmp_path / "w.safetensors").identity == weights.identity
