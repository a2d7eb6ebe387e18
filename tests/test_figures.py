"""Figures can be made, and are what they say."""

import json

import numpy as np
import pytest

from tcm_jax.errors import DataError
from tcm_jax.figures import comparison, jpeg_of_size, training_curves
from tcm_jax.image import read_image


def photo():
    rng = np.random.RandomState(0)
    return np.kron(rng.randint(0, 256, (16, 22, 3)), np.ones((6, 6, 1)))[:, :128].astype(np.uint8)


def test_comparison_has_the_panels(tmp_path):
    panels = [photo(), photo()[::-1], photo()[:, ::-1]]
    comparison(panels, ["one", "two\nlines", "three"], tmp_path / "a.png")
    sheet = read_image(tmp_path / "a.png")
    for i, panel in enumerate(panels):
        np.testing.assert_array_equal(sheet[:96, i * 140 : i * 140 + 128], panel)
    assert sheet[96:].min() < 128


def test_jpeg_of_size():
    sizes = [len(jpeg_of_size(photo(), size)[0]) for size in (1, 2000, 3000, 10**6)]
    assert sizes == sorted(sizes)
    assert 2000 <= sizes[1] < 2200
    assert 3000 <= sizes[2] < 3300
    assert jpeg_of_size(photo(), 2000)[1].shape == photo().shape


def test_training_curves(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{"step": i, "loss": 5 / (i + 1), "bpp": 1.0, "mse": 0.1, "psnr": 20 + i} for i in range(200)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert read_image(tmp_path / "curves.png").std() > 10
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no metrics"):
        training_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="is no metrics"):
        training_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
