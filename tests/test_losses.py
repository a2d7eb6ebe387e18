"""The distortions of the loss: their units, and that NumPy and JAX agree."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import data

from tcm_jax.images.metrics import ms_ssim, squared_error_of_ms_ssim
from tcm_jax.images.ssimulacra2 import squared_error_of_score, ssimulacra2
from tcm_jax.images.visual import visual_error
from tcm_jax.training import losses

LIKELIHOODS = [jnp.full((2, 4, 4, 3), 0.25), jnp.full((2, 1, 1, 5), 0.5)]


def pair(quality):
    image, buffer = data.astronaut()[:176, :176], io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return [x[None].astype(np.float32) / 255 for x in (np.asarray(Image.open(buffer)), image)]


def test_bits_are_those_of_the_likelihoods():
    assert losses.bits_per_pixel(LIKELIHOODS, 64) == pytest.approx([(48 * 2 + 5) / 64] * 2)


def test_the_loss_is_lambda_times_distortion_plus_bits():
    x = jnp.zeros((2, 8, 8, 3))
    loss, parts = losses.rate_distortion(x, x + 0.1, LIKELIHOODS, jnp.array([0.01, 0.03]), "mse")
    assert parts["mse"] == pytest.approx(0.01, rel=1e-5)
    assert parts["psnr"] == pytest.approx(20, rel=1e-5)
    assert parts["distortion"] == pytest.approx(650.25, rel=1e-5)
    assert loss == pytest.approx(0.02 * 650.25 + 101 / 64, rel=1e-5)


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_the_mixture_for_the_eye_is_in_units_of_the_squared_error(quality):
    mse, visual = (losses.DISTORTIONS[name](*pair(quality))[0] for name in ("mse", "visual"))
    assert 1 / 4 < visual / mse < 4


def test_the_mixture_has_its_weights_with_ms_ssim_and_without():
    """Pictures of at most 160 pixels a side have no MS-SSIM; SSIMULACRA 2 has its part."""
    decoded, image = pair(50)
    for side, weights in ((176, (0.4, 0.2, 0.4)), (160, (0.4, 0, 0.6))):
        x, x_hat = image[:, :side, :side], decoded[:, :side, :side]
        mse, score = 255**2 * np.mean((x - x_hat) ** 2), squared_error_of_score(ssimulacra2(x, x_hat)[0])
        similar = squared_error_of_ms_ssim(ms_ssim(x_hat, x)[0]) if side > 160 else 0
        expected = np.dot(weights, (mse, similar, score))
        assert visual_error(x, x_hat)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("quality", [50, 80, 95])
def test_metrics_become_the_squared_error_that_goes_with_them(quality):
    decoded, image = pair(quality)
    mse = float(losses.DISTORTIONS["mse"](decoded, image)[0])
    errors = (
        squared_error_of_ms_ssim(ms_ssim(decoded, image)[0]),
        squared_error_of_score(ssimulacra2(image, decoded)[0]),
    )
    assert all(1 / 2 < error / mse < 2 for error in errors)
    assert squared_error_of_ms_ssim(1.0) == 0
    assert squared_error_of_score(28.0) == pytest.approx(10 * squared_error_of_score(76.0))


@pytest.mark.slow
def test_numpy_and_jax_agree():
    visual = losses.DISTORTIONS["visual"]
    assert jax.jit(visual)(*pair(40)) == pytest.approx(visual(*pair(40)), rel=1e-3)


@pytest.mark.slow
def test_the_gradient_for_the_eye_is_finite_and_leads_down():
    decoded, image = map(jnp.asarray, pair(20))
    loss = jax.jit(jax.value_and_grad(lambda decoded: losses.DISTORTIONS["visual"](decoded, image)[0]))
    before, gradient = loss(decoded)
    assert loss(decoded - 0.002 * jnp.sign(gradient))[0] < 0.95 * before
    assert np.isfinite(loss(image)[1]).all()
