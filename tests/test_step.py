"""The training step: the loss, the two optimizers, the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import photograph

from configs.default import make_config
from tcm_jax import losses, step
from tcm_jax.errors import ConfigError


@pytest.fixture
def config(tiny_config):
    return make_config("test", tiny_config)


def test_rate_distortion_is_the_papers():
    x, x_hat = jnp.zeros((2, 4, 4, 3)), jnp.full((2, 4, 4, 3), 0.1)
    likelihoods = [jnp.full((2, 8), 0.25), jnp.full((2, 2), 0.5)]
    loss, parts = losses.rate_distortion(x, x_hat, likelihoods, 0.013, "mse")
    assert float(parts["bpp"]) == pytest.approx((32 + 4) / 32)
    assert float(loss) == pytest.approx(0.013 * 255**2 * 0.01 + 36 / 32, rel=1e-6)
    assert float(parts["psnr"]) == pytest.approx(20, rel=1e-6)


def test_ms_ssim_distortion():
    x = jnp.asarray(photograph(192, 192)[None], jnp.float32) / 255
    loss, parts = losses.rate_distortion(x, x, [jnp.ones(1)], 8.0, "ms_ssim")
    assert float(loss) == pytest.approx(0, abs=1e-5)
    assert float(parts["ms_ssim"]) == pytest.approx(1, abs=1e-6)


def test_quantiles_have_their_own_rate_and_no_clipping(config):
    optimizer = step.make_optimizer(config)
    params = {"entropy_bottleneck": {"quantiles": jnp.zeros(2), "biases_0": jnp.zeros(2)}}
    grads = jax.tree.map(lambda leaf: leaf + 50.0, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["entropy_bottleneck"]["quantiles"], -config.aux_learning_rate, rtol=1e-5)
    np.testing.assert_allclose(updates["entropy_bottleneck"]["biases_0"], -config.learning_rate, rtol=1e-5)


def test_clipping_is_by_the_norm_of_all_but_the_quantiles(config):
    config.clip_norm = 1e-9  # so small that Adam's epsilon shows it
    optimizer = step.make_optimizer(config)
    params = {"entropy_bottleneck": {"quantiles": jnp.zeros(1), "biases_0": jnp.zeros(1)}}
    grads = jax.tree.map(lambda leaf: leaf + 50.0, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    size = 1e-9 / (1e-9 + 1e-8)
    np.testing.assert_allclose(updates["entropy_bottleneck"]["biases_0"], -config.learning_rate * size, rtol=1e-4)
    np.testing.assert_allclose(updates["entropy_bottleneck"]["quantiles"], -config.aux_learning_rate, rtol=1e-5)


def test_schedules(config):
    config.learning_rate, config.warmup_steps, config.steps = 1.0, 10, 110
    config.schedule, config.milestones = "multistep", (50, 80)
    schedule = step.make_schedule(config)
    np.testing.assert_allclose([schedule(s) for s in (0, 5, 10, 49, 51, 79, 81)], [0, 0.5, 1, 1, 0.1, 0.1, 0.01])
    config.schedule = "cosine"
    schedule = step.make_schedule(config)
    np.testing.assert_allclose([schedule(s) for s in (5, 10, 60, 110)], [0.5, 1, 0.5, 0], atol=1e-6)
    config.schedule = "linear"
    with pytest.raises(ConfigError, match="linear"):
        step.make_schedule(config)


def test_noise_is_uniform_and_new_each_step(tiny_config):
    first, second = (step.draw_noise(tiny_config, jax.random.key(i), (4, 256, 256, 3)) for i in (0, 1))
    assert first["y"].shape == (4, 16, 16, 12)
    assert first["z"].shape == (4, 4, 4, 8)
    assert float(jnp.abs(first["y"]).max()) <= 0.5
    assert float(first["y"].std()) == pytest.approx(12**-0.5, rel=0.02)
    assert not np.array_equal(first["y"], second["y"])
