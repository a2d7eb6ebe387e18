"""The kernels that training uses, against XLA; run as a script with a number of lanes it compares them there."""

import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels import at_most, with_params

from tcm_jax import ops
from tcm_jax.model.layers.swin import SwinBlock
from tcm_jax.ops import cpu_gradients, kernels

TRAINING = ops.Target("cpu", "training")
BLOCKS = [
    (SwinBlock(8, 8, False), (1, 16, 24, 32)),  # (batch, height, width, channels)
    (SwinBlock(8, 8, True), (2, 64, 80, 32)),  # more windows than two parts have
    (SwinBlock(4, 4, True), (2, 8, 12, 8)),
    (SwinBlock(5, 3, True), (2, 9, 6, 15)),
    (SwinBlock(3, 1, True), (1, 4, 6, 6)),
]


@pytest.fixture(scope="module", autouse=True)
def registered():
    assert kernels.training_available()


def by(target, block):
    """A compiled function (params, x, gradient of the result) -> the result, gradients of params and x."""

    def pull_back(params, x, gradient):
        def apply(params, x):
            with ops.target(target):
                return block.apply(params, x)

        y, back = jax.vjp(apply, params, x)
        return y, *back(gradient)

    return jax.jit(pull_back)


def compare(block, size, tolerance=3e-6):
    """That results and all gradients differ by at most `tolerance` of the largest in each."""
    params, x = with_params(block, size)
    gradient = np.random.default_rng(1).standard_normal(size, np.float32)
    expected = by(ops.Target("cpu"), block)(params, x, gradient)
    with mock.patch.object(cpu_gradients, "LEAST_WINDOWS", 1):
        computed = by(TRAINING, block)(params, x, gradient)
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(computed), jax.tree.leaves(expected), strict=True
    ):
        atol = tolerance * float(jnp.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize(
    "case", BLOCKS, ids=["plain", "many windows", "small windows", "of odd sizes", "of one position"]
)
def test_a_swin_block_has_all_gradients(case):
    compare(*case)


def test_a_swin_block_is_two_kernels_where_there_are_many_windows():
    block, size = SwinBlock(8, 8, True), (2, 32, 32, 32)
    for height, count in ((32, 1), (24, 0)):
        shape = (size[0], height, *size[2:])
        params, x = with_params(block, shape)
        program = by(TRAINING, block).lower(params, x, x).as_text()
        assert program.count("@tcm_jax_swin(") == program.count("@tcm_jax_swin_gradients(") == count


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(2, 3), st.integers(2, 5), st.integers(2, 8),
    st.booleans(),
)  # fmt: skip
def test_windows_and_heads_of_any_size(batch, rows, columns, heads, head_dim, window, shifted):
    size = (batch, rows * window, columns * window, heads * head_dim)
    compare(SwinBlock(head_dim, window, shifted), size, 2e-5)  # of four channels the normalization may enlarge errors


MAPS = [  # (batch, height, width, channels, features, stride)
    (2, 16, 16, 32, 40, 1),
    (1, 17, 19, 24, 40, 1),
    (3, 29, 40, 20, 33, 1),  # several blocks of a picture, the last of fewer rows
    (1, 2, 513, 17, 33, 1),  # a row that is longer than a block
    (2, 12, 15, 3, 64, 2),
    (2, 13, 8, 40, 3, 2),
    (2, 33, 61, 18, 35, 2),
    (1, 5, 270, 33, 40, 2),
    (40, 2, 1, 260, 200, 1),  # parts of some of the channels
    (1, 1, 1, 5, 7, 2),
]


def by_convolution(target):
    """A compiled function (x, kernel, gradient of the result, stride) -> the result, gradients of x and kernel."""

    def both(x, kernel, gradient, stride):
        y, back = jax.vjp(lambda x, kernel: cpu_gradients.convolve(x, kernel, stride, target), x, kernel)
        return y, *back(gradient)

    return jax.jit(both, static_argnums=3)


def compare_convolution(batch, height, width, channels, features, stride):
    """That the result and both gradients differ by at most a hundred-thousandth of the largest in each."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, height, width, channels), np.float32)
    kernel = rng.standard_normal((3, 3, channels, features), np.float32) / np.float32(3 * channels**0.5)
    gradient = rng.standard_normal((batch, -(-height // stride), -(-width // stride), features), np.float32)
    expected = by_convolution(ops.Target("cpu"))(x, kernel, gradient, stride)
    computed = by_convolution(TRAINING)(x, kernel, gradient, stride)
    for ours, theirs, most in zip(computed, expected, (1e-5, 1e-5, 6e-6), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=most * float(jnp.abs(theirs).max()))


@pytest.mark.parametrize("case", MAPS, ids=str)
def test_a_convolution_has_both_gradients(case):
    compare_convolution(*case)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), *[st.integers(1, 40)] * 4, st.integers(1, 2))
def test_maps_of_any_size(batch, height, width, channels, features, stride):
    compare_convolution(batch, height, width, channels, features, stride)


def test_the_gradient_of_a_kernel_sums_many_positions():
    """Within a few roundings of what 64 bits give."""
    rng = np.random.default_rng(0)
    x, gradient = rng.standard_normal((2, 8, 192, 256, 8), np.float32)
    computed = np.asarray(jax.jit(kernels.convolution_kernel_gradient, static_argnums=2)(x, gradient, 1), np.float64)
    rows = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    flat = gradient.reshape(-1, 8).astype(np.float64)
    elements = [rows[:, i : i + 192, j : j + 256].reshape(-1, 8).T @ flat for i in range(3) for j in range(3)]
    expected = np.reshape(elements, (3, 3, 8, 8))
    assert np.linalg.norm(computed - expected) < 1.2e-6 * np.linalg.norm(expected)


def test_which_kernels_a_convolution_is():
    """Itself and with stride 1 the input's gradient, where the map is large; the kernel's gradient, always."""
    names = ("winograd", "strided", "kernel_gradient")
    for side, stride, expected in ((16, 1, [2, 0, 1]), (16, 2, [0, 1, 1]), (8, 1, [0, 0, 1])):
        x, gradient = jnp.zeros((2, side, side, 32)), jnp.zeros((2, side // stride, side // stride, 40))
        program = by_convolution(TRAINING).lower(x, jnp.zeros((3, 3, 32, 40)), gradient, stride).as_text()
        assert [program.count(f"@tcm_jax_{name}(") for name in names] == expected


def test_a_kernel_that_was_not_made_is_not_called(monkeypatch):
    from tcm_jax.ops.kernels import handlers

    table = [None] * (len(handlers.KERNELS) + 1)
    monkeypatch.setattr(handlers, "table", lambda: table)
    with pytest.raises(RuntimeError, match="the kernel kernel_gradient was not made; ask `search_target` or"):
        kernels.convolution_kernel_gradient(jnp.zeros((1, 4, 4, 8)), jnp.zeros((1, 4, 4, 8)), 1)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [8, 4])
def test_gradients_with_smaller_vectors(lanes, run_with_lanes):
    run_with_lanes(__file__, lanes)


if __name__ == "__main__":
    at_most(int(sys.argv[1]))
    assert kernels.training_available()
    for case in BLOCKS:
        compare(*case)
    for case in MAPS:
        compare_convolution(*case)
