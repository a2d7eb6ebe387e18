"""Rematerialization and reduced precision: the same numbers, or nearly, from less memory or narrower arithmetic."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import photograph

from tcm_jax.model.layers.residual import ResidualBlockUpsample, ResidualBlockWithStride
from tcm_jax.model.layers.stack import Stack
from tcm_jax.model.tcm import TCM


@pytest.fixture(scope="module")
def case():
    """A small transform, its parameters, a picture, and a cotangent."""
    down, up = ResidualBlockWithStride(8), ResidualBlockUpsample(8)
    blocks = [down, up, down.clone(), up.clone(), down.clone()]
    x = jnp.asarray(photograph(64, 64)[None], jnp.float32) / 255
    params = Stack(blocks).init(jax.random.key(0), x)
    return blocks, params, x


def gradient(case, remat: bool):
    """The compiled program of ((loss, map), gradients)."""
    blocks, params, x = case

    def loss(params, x):
        y = Stack(blocks, remat=remat).apply(params, x)
        return (y**2).mean(), y

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)).lower(params, x).compile()


def test_rematerialization_changes_nothing_but_memory(case):
    _, params, x = case
    plain, remat = gradient(case, False), gradient(case, True)
    (expected, _), expected_grads = plain(params, x)
    (loss, _), grads = remat(params, x)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(jnp.abs(theirs).max()))
    assert remat.memory_analysis().temp_size_in_bytes <= 0.6 * plain.memory_analysis().temp_size_in_bytes
    _, (broken, _) = remat(params, x.at[0, 0, 0, 0].set(jnp.nan))
    assert all(not np.isfinite(leaf).all() for leaf in jax.tree.leaves(broken))


def test_bfloat16_transforms_are_near_float32(tiny_config, tiny_weights):
    params = {"params": jax.tree.map(jnp.asarray, tiny_weights.params)}
    x = jnp.asarray(photograph(128, 128)[None], jnp.float32) / 255
    models = TCM(tiny_config), TCM(tiny_config, transform_dtype=jnp.bfloat16)
    expected, ours = (jax.jit(functools.partial(model.apply, method="analysis"))(params, x) for model in models)
    assert ours.dtype == jnp.float32
    error = float(jnp.sqrt(jnp.mean((ours - expected) ** 2)) / jnp.std(expected))
    assert 1e-4 < error < 0.05  # it is not float32, nor far from it
