"""The teacher's latents are those that a file with the same effort has."""

import dataclasses
import sys

import numpy as np
import pytest
from conftest import drawn_weights, photograph

from tcm_jax.codec import Codec
from tcm_jax.codec.effort import Effort
from tcm_jax.codec.slice_encoder import SliceEncoder
from tcm_jax.errors import ConfigError, TcmWarning
from tcm_jax.images.pictures import write_png
from tcm_jax.training import teacher
from tcm_jax.weights import files

PICTURE = photograph(100, 120)


@pytest.fixture(scope="module")
def weights(tiny_config):
    sizes = {"num_slices": 2, "latent_channels": 8, "blocks": "cnn", "attention": "none"}
    drawn = drawn_weights(dataclasses.replace(tiny_config, levels=3, **sizes), 1)
    said = {"lambda": "0.00001, 0.0001, 0.001", "distortion": "mse"}
    return dataclasses.replace(drawn, metadata=drawn.metadata | said)


def test_latents_are_those_of_the_file(weights, monkeypatch):
    codec, coded = Codec(weights, coder="native"), []
    found = teacher.refined(codec, PICTURE, 50, Effort(2))
    assert found["y"].shape == found["searched"].shape == (8, 8, 8)
    assert found["level"] == pytest.approx([98 / 99])
    assert not np.array_equal(np.rint(found["y"]), np.rint(found["searched"]))
    real = SliceEncoder._encode_slice

    def spy(self, i, y, *args):
        coded.append(y.copy())
        real(self, i, y, *args)

    monkeypatch.setattr(SliceEncoder, "_encode_slice", spy)
    codec.compress(PICTURE, 50, effort=2)
    np.testing.assert_array_equal(np.concatenate(coded, axis=-1), found["searched"])


@pytest.mark.parametrize(("quality", "effort"), [(0, 2), (101, 2), (50, 0)])
def test_settings_without_a_teacher_are_refused(weights, quality, effort):
    with pytest.raises(ConfigError, match="1 to 100"):
        teacher.refined(Codec(weights, coder="native"), PICTURE, quality, Effort(effort))


def test_the_program_goes_on(weights, tmp_path, monkeypatch):
    """Past a picture that cannot be read; and not with other settings."""
    files.save_weights(tmp_path / "w.safetensors", weights)
    (tmp_path / "pictures").mkdir()
    write_png(tmp_path / "pictures" / "a.png", PICTURE)
    (tmp_path / "pictures" / "b.png").write_bytes(b"none")

    def run(*flags: str) -> int:
        command = [str(tmp_path / "pictures"), str(tmp_path / "out"), "--qualities", "20,80.5", "--effort", "1"]
        monkeypatch.setattr(sys, "argv", ["teacher", *command, "--weights", str(tmp_path / "w.safetensors"), *flags])
        return teacher.main()

    with pytest.warns(TcmWarning, match=r"b\.png"):
        assert run("--crop", "64") == 0
    first, second = sorted((tmp_path / "out").glob("*.npz"))
    assert [first.name, second.name] == ["000000-q20.npz", "000000-q80.5.npz"]
    with np.load(first) as read:
        assert set(read) == {"picture", "level", "y", "searched"}
        np.testing.assert_array_equal(read["picture"], PICTURE[18:82, 28:92])
    second.unlink()
    written = first.stat().st_mtime_ns
    with pytest.warns(TcmWarning, match=r"b\.png"):
        assert run("--crop", "64") == 0
    assert (first.stat().st_mtime_ns, second.exists()) == (written, True)
    with pytest.raises(ConfigError, match="other pictures or settings"):
        run("--crop", "48")
    with pytest.raises(ConfigError, match="at least 1"):
        run("--crop", "0")


@pytest.mark.parametrize("flags", [("--qualities", "a,b"), ("--qualities", "0"), ("--effort", "0")])
def test_wrong_flags_leave_no_folder(tmp_path, monkeypatch, capsys, flags):
    monkeypatch.setattr(sys, "argv", ["teacher", str(tmp_path), str(tmp_path / "out"), *flags])
    with pytest.raises(SystemExit):
        teacher.main()
    assert f"argument {flags[0]}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("")
    monkeypatch.setattr(sys, "argv", ["teacher", "samples", str(tmp_path / "out")])
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        teacher.main()
