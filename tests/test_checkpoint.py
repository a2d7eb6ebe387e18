"""Weights as files: what may be written, and what a file in half precision is."""

import jax
import numpy as np
import pytest

from tcm_jax.errors import WeightsError
from tcm_jax.weights import files


def test_weights_that_are_not_finite_are_not_exported(tiny_weights, tmp_path):
    params = jax.tree.map(np.copy, tiny_weights.params)
    params["g_a"]["layers_6"]["bias"][0] = np.nan
    with pytest.raises(WeightsError, match="g_a/layers_6/bias"):
        files.export(tmp_path / "w.safetensors", tiny_weights.config, params, {})
    assert not (tmp_path / "w.safetensors").exists()


def test_float16_weights_keep_their_identity(tiny_weights, tmp_path):
    path = files.export(tmp_path / "w.safetensors", tiny_weights.config, tiny_weights.params, {"name": "x"}, np.float16)
    loaded = files.load_weights(path)
    made = files.make_weights(tiny_weights.config, tiny_weights.params, {}, np.float16)
    assert loaded.identity == made.identity != tiny_weights.identity
    assert loaded.name == "x"
