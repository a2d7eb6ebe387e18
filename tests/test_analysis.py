"""What the analyses find is what the network does, their figures differ when it differs, and bad input says so."""

import argparse
import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import drawn_weights, photograph

from tcm_jax.errors import ConfigError
from tcm_jax.evaluation import complexity_table
from tcm_jax.evaluation.analysis import command as analyze
from tcm_jax.evaluation.analysis.latents import gain_level, latent_maps
from tcm_jax.evaluation.analysis.receptive import reach, receptive_field
from tcm_jax.images import figures
from tcm_jax.images.pictures import read_image, write_png
from tcm_jax.model import complexity
from tcm_jax.model.tcm import TCM, flat_shapes
from tcm_jax.weights.files import save_weights


@pytest.fixture(scope="module")
def image():
    return photograph(100, 128)


@pytest.fixture(scope="module")
def found(tiny_weights, image):
    return latent_maps(tiny_weights, image)


def test_bits_are_those_of_the_codec(found, tiny_codec, image):
    """The padded rows are not counted: the picture's 100 rows touch all but one of 8 rows of latents."""
    assert found.slice_bits.shape == (3, 7, 8)
    assert found.hyper_bits.shape == (2, 2)
    total = found.slice_bits.sum() + found.hyper_bits.sum()
    assert total == pytest.approx(found.bits_y.sum() + found.bits_z.sum())
    estimated = tiny_codec.encode(image).estimated_bits
    assert 0.8 * estimated < total < estimated
    np.testing.assert_allclose(found.slice_bits[1], found.bits_y[..., 4:8].sum(-1), rtol=1e-5)


def test_latents_hang_together(found):
    np.testing.assert_allclose(found.symbols, np.round(found.y - found.means), atol=0)
    np.testing.assert_allclose(found.channel_energy, (found.y**2).mean((0, 1)), rtol=1e-5)
    assert found.channel_bits.sum() == pytest.approx(found.bits_y.sum(), rel=1e-5)
    assert found.deviation.shape == (7, 8)
    # Latent residual prediction moves y_hat by at most half.
    assert np.abs(found.y_hat - found.y).max() < 1.0001
    exact = dataclasses.replace(found, y_hat=found.y)
    assert exact.deviation.max() == 0


def test_latents_refuse(tiny_weights, image):
    with pytest.raises(ConfigError, match="analyses take up to"):
        latent_maps(tiny_weights, np.zeros((4000, 4000, 3), np.uint8))
    with pytest.raises(ConfigError, match="a quality is for variable-rate weights, which need one; these are not"):
        gain_level(tiny_weights, 50)


@pytest.mark.parametrize("quality", ["0", "101", "nan"])
def test_a_quality_out_of_range_is_refused(tmp_path, image, quality):
    write_png(tmp_path / "p.png", image)
    with pytest.raises(ConfigError, match=f"the quality must be a number from 1 to 100, not {quality}"):
        command(tmp_path, "bits", tmp_path / "p.png", "--quality", quality)


def test_a_receptive_field_is_the_gradient(tiny_weights, image):
    """Against finite differences along the gradient's own pixels, and zero where the network cannot see."""
    field = receptive_field(tiny_weights, image, 40, 60)
    assert field.shape == (100, 128)
    assert field.max() == 1
    model = TCM(tiny_weights.config)

    @jax.jit
    def latent(picture):
        x = jnp.pad(jnp.asarray(picture), ((0, 28), (0, 0), (0, 0)), mode="edge")[None]
        return model.apply({"params": tiny_weights.params}, x, method="analysis")[0, 3, 2].sum()

    base = image.astype(np.float64) / 255
    values = []
    strongest, weaker = np.unravel_index(field.argmax(), field.shape), (52, 36)
    for row, column in (strongest, weaker):
        gradient = []
        for channel in range(3):
            moved = [base.copy() for _ in range(2)]
            for one, sign in zip(moved, (-1, 1), strict=True):
                one[row, column, channel] += sign * 5e-3
            gradient.append(float(latent(moved[1]) - latent(moved[0])) / 1e-2)
        values.append(np.abs(gradient).mean())
    assert values[1] / values[0] == pytest.approx(field[weaker], rel=0.1)


def test_reach():
    field = np.zeros((50, 60), np.float32)
    field[10:20, 5:45] = 0.5
    field[0, 0] = 0.001
    assert reach(field, 0.01) == {"share": pytest.approx(100 * 400 / 3000), "height": 10, "width": 40}
    assert reach(field, 0.0001) == {"share": pytest.approx(100 * 401 / 3000), "height": 20, "width": 45}
    assert reach(field, 1) == {"share": 0, "height": 0, "width": 0}


def test_a_point_outside_of_the_picture(tiny_weights, image):
    with pytest.raises(ConfigError, match=r"the point \(128, 3\) lies outside of the picture, which is 128x100"):
        receptive_field(tiny_weights, image, 128, 3)


def test_work_and_parameters_by_part(tiny_config):
    counts, parts = complexity.parameters(tiny_config), complexity.macs(tiny_config, 128, 128)
    assert counts.keys() == parts.keys() == complexity.PARTS.keys()
    assert sum(counts.values()) == sum(np.prod(shape) for shape in flat_shapes(tiny_config).values())
    # The first convolution of g_a: 3x3 kernels from 3 to 8 channels at 64x64 positions, and its skip.
    assert parts["g_a"].weights > 64 * 64 * (9 * 3 * 8 + 3 * 8)
    # g_a's attention: at 64, 32 and 16 positions a side, windows of 64, two products of 4 channels.
    assert parts["g_a"].attention == sum(2 * side**2 * 64 * 4 for side in (64, 32, 16))
    assert parts["LRP"].attention == parts["slices"].attention == 0


@pytest.mark.slow
def test_the_work_of_the_small_network_by_part():
    """215.3 and 4.7 GMAC at 768x512 by an independent program; the parts are all of it."""
    from tcm_jax.model.config import reference_config

    parts = complexity.macs(reference_config(64))
    total = sum(parts.values(), complexity.Macs())
    weights, attention = complexity.INDEPENDENT_GMAC[64]
    assert total.weights / 1e9 == pytest.approx(weights, abs=0.05)
    assert total.attention / 1e9 == pytest.approx(attention, abs=0.05)
    assert parts["g_a"].weights / 1e9 == pytest.approx(67.28, abs=0.01)
    assert parts["LRP"].attention == 0
    counts = complexity.parameters(reference_config(64))
    assert sum(counts.values()) == 45_180_752
    assert counts["LRP"] == 6_821_920


def command(tmp_path, *arguments):
    parser = argparse.ArgumentParser()
    analyze.add_arguments(parser)
    output = tmp_path / "figure.png"
    analyze.run(parser.parse_args([*map(str, arguments), "-o", str(output)]))
    return output


@pytest.mark.parametrize("kind", ["bits", "deviation", "energy", "receptive-field"])
def test_each_figure_differs_when_the_model_differs(kind, tmp_path, tiny_config, image, capsys):
    pytest.importorskip("matplotlib")
    write_png(tmp_path / "p.png", image)
    made = []
    for seed in (0, 1):
        save_weights(tmp_path / "w.safetensors", drawn_weights(tiny_config, seed))
        output = command(tmp_path, kind, tmp_path / "p.png", "--weights", tmp_path / "w.safetensors")
        made.append((read_image(output), json.loads(output.with_suffix(".json").read_text())))
    assert made[0][0].std() > 5
    assert made[0][0].shape != made[1][0].shape or (made[0][0] != made[1][0]).mean() > 0.001
    numbers = [list(json.values())[1] for _, json in made]
    assert list(numbers[0].values()) != list(numbers[1].values())
    assert made[0][1]["provenance"]["command"]
    assert "drawn-0" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/stdout")
def test_on_standard_output_a_figure_is_alone(tmp_path, tiny_weights, image, capfdbinary):
    """Its numbers are on the other stream, and no file is made beside it."""
    pytest.importorskip("matplotlib")
    write_png(tmp_path / "p.png", image)
    save_weights(tmp_path / "w.safetensors", tiny_weights)
    parser = argparse.ArgumentParser()
    analyze.add_arguments(parser)
    analyze.run(parser.parse_args(["bits", f"{tmp_path}/p.png", "--weights", f"{tmp_path}/w.safetensors",
                                   "-o", "/dev/stdout"]))  # fmt: skip
    out, err = capfdbinary.readouterr()
    assert out.startswith(b"\x89PNG") and out.endswith(b"IEND\xaeB`\x82")
    assert err.endswith(b"wrote /dev/stdout\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.png", "w.safetensors"]


def test_complexity_without_a_cache_folder(tmp_path, tiny_weights, monkeypatch):
    monkeypatch.setattr(complexity_table, "REFERENCES", {})
    monkeypatch.setattr(analyze, "cache_folder", lambda: None)
    save_weights(tmp_path / "w.safetensors", tiny_weights)
    numbers = command(tmp_path, "complexity", "--weights", tmp_path / "w.safetensors").with_suffix(".json")
    assert [row["name"] for row in json.loads(numbers.read_text())["numbers"]] == ["drawn-0"]


@pytest.mark.slow
def test_complexity_with_times(tmp_path, tiny_config, monkeypatch, capsys):
    monkeypatch.setattr(complexity_table, "REFERENCES", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    save_weights(tmp_path / "w.safetensors", drawn_weights(tiny_config, 0))
    weights = "--weights", tmp_path / "w.safetensors"
    (untimed,) = json.loads(command(tmp_path, "complexity", *weights).with_suffix(".json").read_text())["numbers"]
    assert "enc s" not in capsys.readouterr().out
    (row,) = json.loads(command(tmp_path, "complexity", *weights, "--time").with_suffix(".json").read_text())["numbers"]
    measured = {key: row.pop(key) for key in ("encode_seconds", "decode_seconds", "peak_memory_bytes")}
    assert row == untimed
    assert all(value > 0 for value in measured.values())
    assert 100 * 2**20 < measured["peak_memory_bytes"] < 4 * 2**30
    last = capsys.readouterr().out.splitlines()[-2].split()
    assert last[-3:-1] == [f"{measured[key]:.2f}" for key in ("encode_seconds", "decode_seconds")]


def test_the_command_refuses(tmp_path, image):
    with pytest.raises(ConfigError, match="bits needs a picture: tcm analyze bits PICTURE"):
        command(tmp_path, "bits")


def test_figures_show_several_models(tmp_path, image):
    pytest.importorskip("matplotlib")
    one, two = np.full((7, 8), 0.1), np.eye(7, 8)
    figures.deviations(image, {"a": one, "b": two}, tmp_path / "d.png")
    figures.channel_energy({"a": one[0], "b": two[0] + 0.1}, tmp_path / "e.png")
    figures.receptive_fields(image, (3, 4), {"a": image[..., 0] / 255}, (0.01, 0.5), tmp_path / "r.png")
    assert all(read_image(tmp_path / f"{name}.png").std() > 5 for name in "der")
