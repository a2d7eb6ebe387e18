"""Figures can be made, and are what they say."""

import json

import pytest

from tcm_jax.errors import DataError
from tcm_jax.images.figures import training_curves
from tcm_jax.images.pictures import read_image


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
