"""The kernels' gradients of maps against XLA's; run as a script with a number of lanes it compares them there."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels import CASES, CODEC, at_most, name, with_params

from tcm_jax import ops
from tcm_jax.model.layers.conv import Conv3x3
from tcm_jax.model.layers.swin import SwinBlock
from tcm_jax.ops import kernels


@pytest.fixture(scope="module", autouse=True)
def registered():
    assert kernels.gradients_available()


def gradient_of_map(module, target):
    """A compiled function (params, x, gradient of the result) -> that of x."""

    def pull_back(params, x, gradient):
        def apply(x):
            with ops.target(target):
                return module.apply(params, x)

        return jax.vjp(apply, x)[1](gradient)[0]

    return jax.jit(pull_back)


def compare(module, size, tolerance):
    """How the gradient by the kernels differs from XLA's, in shares of its size."""
    params, x = with_params(module, size)
    y = jax.eval_shape(module.apply, params, x)
    gradient = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    with jax.default_matmul_precision("highest"):
        expected = gradient_of_map(module, ops.Target("cpu"))(params, x, gradient)
        computed = gradient_of_map(module, CODEC)(params, x, gradient)
    size = float(jnp.abs(expected).max())
    assert size > 0
    np.testing.assert_allclose(computed, expected, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("case", CASES, ids=map(name, CASES))
def test_gradients_of_maps_are_what_xla_computes(case):
    compare(*case, 3e-6)


def compare_blurs(size):
    """A blur's result, and its gradient, by the kernel and by XLA."""
    rng = np.random.default_rng(0)
    x, gradient = rng.standard_normal(size, np.float32), rng.standard_normal(size, np.float32)
    taps = (0.1, 0.5, -0.3, 0.7)  # other than their mirror

    def blur(target):
        def both(x, gradient):
            with ops.target(target):
                (y,), pull_back = jax.vjp(lambda x: ops.blur([x], taps), x)
            return y, *pull_back([gradient[:, 3:, 3:]])

        return jax.jit(both)

    for computed, expected in zip(blur(CODEC)(x, gradient), blur(ops.Target("cpu"))(x, gradient), strict=True):
        np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-6)
    calls = re.findall(r'custom_call_target="(tcm_jax_\w*)"', blur(CODEC).lower(x, gradient).compile().as_text())
    assert set(calls) == {"tcm_jax_blur"}


# Rows of one vector; of which the last is not whole; of more, in parts of which the last has fewer rows.
BLURS = [(1, 4, 16, 1), (2, 9, 13, 3), (2, 20, 70, 2)]


@pytest.mark.parametrize("size", BLURS)
def test_blurs_and_their_gradients_are_what_xla_computes(size):
    compare_blurs(size)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(2, 3),
    st.integers(2, 5),
    st.integers(1, 8),
    st.booleans(),
)
def test_windows_and_heads_of_any_size(batch, rows, columns, heads, head_dim, window, shifted):
    module = SwinBlock(head_dim, window, shifted)
    compare(module, (batch, rows * window, columns * window, heads * head_dim), 1e-5)


def test_a_swin_block_goes_back_by_one_kernel():
    module, size = SwinBlock(8, 8, True), (1, 16, 24, 32)
    params, x = with_params(module, size)
    program = gradient_of_map(module, CODEC).lower(params, x, x)
    assert program.as_text().count("@tcm_jax_swin_gradient") == 1
    calls = re.findall(r'custom_call_target="(tcm_jax_swin\w*)"', program.compile().as_text())
    assert calls == ["tcm_jax_swin_gradient"]  # the block itself is not needed


@pytest.mark.parametrize("part", [SwinBlock(8, 8, False), Conv3x3(8, leaky=True)], ids=["Swin", "convolution"])
def test_a_parameter_has_no_gradient(part):
    params, x = with_params(part, (1, 16, 16, 16))

    def loss(params):
        with ops.target(CODEC):
            return part.apply(params, x).sum()

    with pytest.raises(TypeError, match="gradients of maps, not of parameters"):
        jax.grad(loss)(params)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [8, 4])
def test_gradients_with_smaller_vectors(lanes, run_with_lanes):
    run_with_lanes(__file__, lanes)


if __name__ == "__main__":
    at_most(int(sys.argv[1]))
    assert kernels.gradients_available()
    for case in CASES:
        compare(*case, 3e-6)
    for size in BLURS:
        compare_blurs(size)
