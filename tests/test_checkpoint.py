"""Weights as files: what may be written, what a file in half precision is, and what is no network."""

import copy
import dataclasses

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


def test_a_file_of_impossible_sizes_is_one_sentence(tiny_weights, tmp_path):
    config = copy.copy(tiny_weights.config)
    object.__setattr__(config, "num_slices", 0)
    files.save_weights(tmp_path / "w.safetensors", dataclasses.replace(tiny_weights, config=config))
    with pytest.raises(WeightsError, match="holds no usable model configuration or tables: num_slices is 0"):
        files.load_weights(tmp_path / "w.safetensors")
