"""Layers and array functions, one property each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax import ops
from tcm_jax.entropy import factorized, gaussian
from tcm_jax.errors import ConfigError
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.layers.conv import Conv1x1, Conv1x1Strided, SubpelConv
from tcm_jax.model.layers.gdn import GDN
from tcm_jax.model.layers.swin import SwinBlock
from tcm_jax.model.layers.tcm_block import TCMBlock
from tcm_jax.ops import cpu_gradients, shifted_windows

RNG = np.random.RandomState(0)


def randn(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_lower_bound_lets_a_bounded_value_rise_only():
    x = jnp.array([0.5, 2.0, 0.5, 2.0])
    gradient = jax.grad(lambda x: (ops.lower_bound(x, 1.0) * jnp.array([1.0, 1.0, -1.0, -1.0])).sum())(x)
    np.testing.assert_array_equal(gradient, [0, 1, -1, -1])
    np.testing.assert_array_equal(ops.lower_bound(x, 1.0), [1, 2, 1, 2])


def test_straight_through_rounding():
    x = jnp.array([0.4, 0.5, 1.5, -2.6])
    np.testing.assert_array_equal(ops.ste_round(x), [0, 0, 2, -3])
    np.testing.assert_array_equal(jax.grad(lambda x: ops.ste_round(x).sum())(x), 1)


def test_subpel_conv_is_pytorchs():
    torch = pytest.importorskip("torch")
    x, kernel, bias = randn(1, 5, 6, 3), randn(3, 3, 3, 16), randn(16)
    ours = SubpelConv(4).apply({"params": {"layers_0": {"kernel": kernel, "bias": bias}}}, x)
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    y = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), weight, torch.from_numpy(bias), 1, 1
    )
    theirs = torch.nn.functional.pixel_shuffle(y, 2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_the_strided_product_sees_every_second_row_and_column(size):
    x = randn(2, *size, 3)
    params = {"params": {"kernel": randn(3, 4), "bias": randn(4)}}
    strided = Conv1x1Strided(4).apply(params, x)
    np.testing.assert_allclose(strided, Conv1x1(4).apply(params, x[:, ::2, ::2]), rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError):
        Conv1x1(4, stride=2)


def test_gdn_and_its_inverse():
    x = randn(1, 2, 2, 4)
    gdn = GDN()
    params = gdn.init(jax.random.key(0), x, x)
    norm = np.sqrt(1 + 0.1 * x.astype(np.float64) ** 2)
    np.testing.assert_allclose(gdn.apply(params, x, 0 * x), x / norm, rtol=1e-5)
    np.testing.assert_allclose(GDN(inverse=True).apply(params, x, 3 * x), x * norm + 3 * x, rtol=1e-5)


def block_and_params(shifted, height=32, width=48):
    block = TCMBlock(head_dim=4, window=8, shifted=shifted)
    x = randn(2, height, width, 16)
    return block, block.init(jax.random.key(1), x), x


@pytest.mark.parametrize("shifted", [False, True])
def test_strips_in_a_scan_equal_all_at_once(shifted, monkeypatch):
    block, params, x = block_and_params(shifted)
    monkeypatch.setattr(shifted_windows, "HEADS", 12)
    few = block.apply(params, x)
    monkeypatch.setattr(shifted_windows, "HEADS", 10**6)
    np.testing.assert_allclose(few, block.apply(params, x), atol=1e-5)


def reach(shifted, row, column):
    """Rows and columns that the output at (row, column) of a Swin block depends on, in a 32x32 map."""
    x = randn(1, 32, 32, 8)
    block = SwinBlock(4, 8, shifted)
    params = block.init(jax.random.key(0), x)
    gradient = jax.grad(lambda x: block.apply(params, x)[0, row, column].sum())(x)
    rows, columns = np.nonzero(np.abs(gradient[0]).sum(-1))
    return (rows.min(), rows.max(), columns.min(), columns.max())


@pytest.mark.parametrize(
    ("shifted", "position", "window"),
    [
        (False, (9, 17), (8, 15, 16, 23)),
        (True, (9, 17), (4, 11, 12, 19)),
        (True, (0, 0), (0, 3, 0, 3)),  # the mask keeps the two ends of the cyclic shift apart
        (True, (31, 13), (28, 31, 12, 19)),
    ],
)
def test_windows_see_their_own_positions_alone(shifted, position, window):
    assert reach(shifted, *position) == window


def test_relative_positions_are_the_offsets():
    table = shifted_windows.relative_positions(3)
    assert table[0, 0] == table[4, 4] == 12  # no offset: the middle of the 5x5 table
    assert table[8, 0] == 24
    assert table[0, 8] == 0
    assert table[1, 0] == 13


@pytest.mark.parametrize("sigma", [1e-3, 0.11, 1.0, 30.0])
def test_gaussian_likelihoods_sum_to_one(sigma):
    mass = gaussian.likelihood(jnp.arange(-200.0, 201.0), jnp.full(401, sigma))
    assert float(mass.sum()) == pytest.approx(1, abs=2e-6)
    assert float(mass.min()) >= 0.99e-9


def test_gaussian_likelihood_has_finite_gradients_at_extremes():
    values = jnp.array([0.0, 0.5, 50.0, 1e4, -1e4])
    gradients = jax.grad(lambda v, s: jnp.log2(gaussian.likelihood(v, s)).sum(), (0, 1))(values, jnp.full(5, 0.01))
    assert all(np.isfinite(g).all() for g in gradients)


def test_factorized_likelihood_is_a_distribution():
    params = factorized.init(jax.random.key(0), 3)
    z = jnp.tile(jnp.arange(-400.0, 401.0)[None, None, :, None], (1, 1, 1, 3))
    np.testing.assert_allclose(factorized.likelihood(params, z).sum((0, 1, 2)), 1, atol=1e-4)


def test_factorized_maths_is_the_same_in_numpy():
    params = factorized.init(jax.random.key(0), 3)
    x = np.linspace(-20, 20, 9).reshape(1, 1, 9).repeat(3, 0)
    ours = factorized.logits_cumulative({key: np.asarray(value, np.float64) for key, value in params.items()}, x)
    assert isinstance(ours, np.ndarray)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, factorized.logits_cumulative(params, jnp.asarray(x, jnp.float32)), atol=1e-5)


def test_auxiliary_loss_moves_the_quantiles_alone():
    params = factorized.init(jax.random.key(0), 3)
    gradients = jax.grad(factorized.auxiliary_loss)(params)
    assert np.abs(gradients.pop("quantiles")).sum() > 0
    assert not any(np.any(g) for g in gradients.values())


@pytest.mark.parametrize(
    "change",
    [{"num_slices": 3}, {"widths": (128, 128)}, {"head_dims": (7, 16, 32)}, {"window": 4}, {"widths": (9, 8, 8)}],
)
def test_impossible_configurations_are_refused(change):
    with pytest.raises(ConfigError):
        ModelConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_slices": 0}, "num_slices is 0; sizes are whole numbers, here of at least 1"),
        ({"num_slices": 2.5}, "num_slices is 2.5"),
        ({"latent_channels": -320}, "latent_channels is -320"),
        ({"hyper_channels": 0}, "hyper_channels is 0"),
        ({"hyper_width": 0}, "hyper_width is 0"),
        ({"atten_width": 0}, "atten_width is 0"),
        ({"widths": (0, 128, 128)}, r"widths is \(0, 128, 128\); sizes are whole numbers, here of at least 1"),
        ({"head_dims": (8, 0, 32)}, "head_dims is .8, 0, 32"),
        ({"context_widths": (224, -1)}, "context_widths is .224, -1"),
        ({"context_widths": (224,)}, "context_widths needs two entries"),
        ({"depths": (-1, 2, 2)}, "depths is .-1, 2, 2.; sizes are whole numbers, here of at least 0"),
        ({"hyper_depth": -1}, "hyper_depth is -1; sizes are whole numbers, here of at least 0"),
        ({"max_support": -1}, "max_support is -1"),
        ({"detail_channels": -8}, "detail_channels is -8"),
        ({"detail_width": 0}, "detail_width is 0"),
        ({"checkerboard_width": -1}, "checkerboard_width is -1"),
    ],
    ids=str,
)
def test_sizes_are_whole_positive_numbers(change, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**change)
    zeros = ModelConfig(depths=(0, 0, 0), hyper_depth=0, max_support=0)
    assert zeros.depths == (0, 0, 0)


def test_configuration_survives_json():
    import json

    config = ModelConfig(widths=(8, 16, 32), head_dims=(4, 8, 8))
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config
    with pytest.raises(ConfigError, match="nonsense"):
        ModelConfig.from_dict({**json.loads(config.to_json()), "nonsense": 1})


BY_PRODUCTS = {
    "by elements": {"LARGE_KERNEL": 1},
    "in one block": {"LARGE_MAP": 1},
    "in blocks, the last one not full": {"LARGE_MAP": 1, "BLOCK": 75},
}


@pytest.mark.parametrize("limits", BY_PRODUCTS.values(), ids=BY_PRODUCTS)
@pytest.mark.parametrize("size", [(12, 8), (11, 7), (1, 5)])
@pytest.mark.parametrize("stride", [1, 2])
def test_kernel_gradients_by_products_are_those_of_the_convolution(stride, size, limits, monkeypatch):
    x, kernel = randn(2, *size, 3), randn(3, 3, 3, 7)
    gradient = randn(*cpu_gradients.convolve_by_xla(x, kernel, stride).shape)
    expected = jax.vjp(lambda x, k: cpu_gradients.convolve_by_xla(x, k, stride), x, kernel)[1](gradient)
    for name, limit in limits.items():
        monkeypatch.setattr(cpu_gradients, name, limit)
    by_products = jax.vjp(lambda x, k: cpu_gradients.convolve(x, k, stride, ops.Target("cpu")), x, kernel)[1](gradient)
    for ours, theirs in zip(by_products, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
