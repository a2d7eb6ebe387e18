"""Weights as files: what may be written, what a file in half precision is, and what is no network."""

import copy
import dataclasses

import hypothesis.extra.numpy
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from tcm_jax.errors import WeightsError
from tcm_jax.weights import files, number_types
from tcm_jax.weights.weights import table_arrays


def test_weights_that_are_not_finite_are_not_exported(tiny_weights, tmp_path):
    params = jax.tree.map(np.copy, tiny_weights.params)
    params["g_a"]["layers_6"]["bias"][0] = np.nan
    with pytest.raises(WeightsError, match="g_a/layers_6/bias"):
        files.export(tmp_path / "w.safetensors", tiny_weights.config, params, {})
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_weights_in_fewer_bits_keep_their_identity(tiny_weights, tmp_path, dtype):
    """Whatever they are stored in from there on."""
    path = files.export(tmp_path / "w.safetensors", tiny_weights.config, tiny_weights.params, {"name": "x"}, dtype)
    loaded = files.load_weights(path)
    made = files.make_weights(tiny_weights.config, tiny_weights.params, {}, dtype)
    assert loaded.identity == made.identity != tiny_weights.identity
    assert loaded.name == "x"
    for other in {dtype, np.float32}:
        files.save_weights(tmp_path / "again.safetensors", loaded, other)
        assert files.load_weights(tmp_path / "again.safetensors").identity == made.identity


def test_kernels_are_stored_in_int8(tiny_weights, tmp_path):
    rounded = files.make_weights(tiny_weights.config, tiny_weights.params, {}, np.int8)
    files.save_weights(tmp_path / "w.safetensors", rounded, np.int8)
    with safe_open(tmp_path / "w.safetensors", framework="numpy") as stored:
        types = {key: stored.get_tensor(key).dtype for key in stored.keys() if not key.startswith("tables/")}  # noqa: SIM118
    assert {np.dtype(np.int8), np.dtype(np.float16), np.dtype(np.float32)} == set(types.values())
    for key, dtype in types.items():
        assert (dtype == np.int8) == (key + ".scale" in types)
        assert (dtype == np.float32) == key.endswith(".scale")
        assert not (dtype == np.int8 and key.startswith(("g_a", "g_s")))


def test_int8_without_its_scales_is_one_sentence(tiny_weights, tmp_path):
    arrays = number_types.packed({"cc_/kernel": np.eye(3, dtype=np.float32)}, np.int8)
    header = {"format": files.FORMAT, "config": tiny_weights.config.to_json()}
    del arrays["cc_/kernel.scale"]
    save_file(arrays | table_arrays(tiny_weights.tables), tmp_path / "w.safetensors", header)
    with pytest.raises(WeightsError, match=r"holds no usable .*cc_/kernel\.scale"):
        files.load_weights(tmp_path / "w.safetensors")


@given(hypothesis.extra.numpy.arrays(np.float32, (3, 5, 4), elements=st.floats(-(2.0**9), 2.0**9, width=32)))
def test_int8_kernels(kernel):
    """Within half a step of each column's largest, whole in float16, nothing moved by rounding twice."""
    kernel[np.abs(kernel) < 2.0**-20] = 0
    once = number_types.rounded("cc_/kernel", kernel, np.int8)
    assert np.all(np.abs(once - kernel) <= np.abs(kernel).max((0, 1)) / 127 * (1 + 1 / 8) / 2)
    large = np.abs(kernel).max((0, 1)) > 2.0**-12  # below, float16 has fewer bits
    np.testing.assert_array_equal(once.astype(np.float16)[..., large], once[..., large])
    stored = number_types.packed({"cc_/kernel": once}, np.int8)
    assert stored["cc_/kernel"].dtype == np.int8 and stored["cc_/kernel"].flags.c_contiguous
    np.testing.assert_array_equal(number_types.unpacked(stored)["cc_/kernel"], once)
    np.testing.assert_array_equal(number_types.rounded("cc_/kernel", once, np.int8), once)


def test_a_file_of_impossible_sizes_is_one_sentence(tiny_weights, tmp_path):
    config = copy.copy(tiny_weights.config)
    object.__setattr__(config, "num_slices", 0)
    files.save_weights(tmp_path / "w.safetensors", dataclasses.replace(tiny_weights, config=config))
    with pytest.raises(
        WeightsError, match="holds no usable model configuration, tables or parameters: num_slices is 0"
    ):
        files.load_weights(tmp_path / "w.safetensors")
