"""PSNR and MS-SSIM against pytorch_msssim's values."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax import ops
from tcm_jax.errors import ImageError
from tcm_jax.images.metrics import MS_SSIM_MIN_SIDE, ms_ssim, ms_ssim_db
from tcm_jax.images.psnr import psnr

GOLDEN = Path(__file__).parent.parent.parent / "shared" / "golden"

# height, width, noise: pytorch_msssim 1.0.0's ms_ssim(data_range=1), and the norm of its gradient for the noisy
# picture in two cases (a compilation each).
CASES = [
    (176, 208, 0.02, 0.99234915, None),
    (161, 163, 0.1, 0.91752416, 0.0075050192),
    (177, 321, 0.3, 0.7641155, None),
    (191, 255, 1.0, 0.39287817, 0.0107844204),
]


def pair(height, width, noise):
    rng = np.random.RandomState(3)
    blocks = np.kron(rng.rand(-(-height // 16), -(-width // 16), 3), np.ones((16, 16, 1)))[:height, :width]
    noisy = np.clip(blocks + noise * rng.standard_normal(blocks.shape), 0, 1)
    return blocks[None].astype(np.float32), noisy[None].astype(np.float32)


@pytest.mark.parametrize(("height", "width", "noise", "expected", "gradient_norm"), CASES)
def test_ms_ssim_is_that_of_pytorch_msssim(height, width, noise, expected, gradient_norm):
    a, b = pair(height, width, noise)
    assert ms_ssim(a, b) == pytest.approx([expected], abs=1e-6)
    if gradient_norm is None:
        return
    for target in (ops.Target("cpu"), ops.search_target("cpu")):  # by XLA, by the kernel

        def similarity(b, target=target):
            with ops.target(target):
                return ms_ssim(a, b).sum()

        value, gradient = jax.jit(jax.value_and_grad(similarity))(b)
        assert float(value) == pytest.approx(expected, abs=1e-6)
        assert float(jnp.linalg.norm(gradient)) == pytest.approx(gradient_norm, rel=1e-4)


def test_ms_ssim_of_a_batch_is_that_of_each():
    pairs = [pair(176, 176, noise) for noise in (0.05, 0.5)]
    batch = ms_ssim(*(np.concatenate(images) for images in zip(*pairs, strict=True)))
    np.testing.assert_allclose(batch, [ms_ssim(a, b)[0] for a, b in pairs], rtol=1e-6)


def test_ms_ssim_of_a_negative_has_finite_gradients():
    a, _ = pair(176, 176, 0.1)
    value, gradient = jax.jit(jax.value_and_grad(lambda b: ms_ssim(a, b).sum()))(1 - a)
    assert value == 0
    assert jnp.isfinite(gradient).all()


def test_ms_ssim_of_equal_pictures():
    a, _ = pair(176, 176, 0.1)
    assert ms_ssim(a, a) == pytest.approx([1])
    assert ms_ssim_db(1.0) == math.inf
    assert ms_ssim_db(0.99) == pytest.approx(20)


def test_ms_ssim_refuses_small_and_unequal_pictures():
    a = np.zeros((1, MS_SSIM_MIN_SIDE - 1, 300, 3), np.float32)
    with pytest.raises(ImageError, match="at least 161 pixels a side; the picture is 300x160"):
        ms_ssim(a, a)
    with pytest.raises(ImageError, match="cannot be compared"):
        ms_ssim(a, a[:, 1:])


def test_psnr():
    a = np.full((4, 4, 3), 7, np.uint8)
    assert psnr(a, a) == math.inf
    assert psnr(a, a + np.uint8(1)) == pytest.approx(48.1308036)
    assert psnr(np.zeros_like(a), np.full_like(a, 255)) == 0
    with pytest.raises(ImageError, match="cannot be compared"):
        psnr(a, a[1:])


@pytest.mark.skipif(not GOLDEN.exists(), reason="shared/golden is not here")
def test_ms_ssim_of_the_reference_pictures():
    for case in json.loads((GOLDEN / "metrics.json").read_text()):
        file = np.load(GOLDEN / case["a"].split(":")[0])
        a = (file["image"] / 255).astype(np.float32)
        if "x_hat" in case["b"]:
            b = np.clip(file["x_hat"], 0, 1)
        else:
            noise = float(case["b"].split("+ ")[1].split("*")[0])
            b = np.clip(a + noise * np.random.RandomState(5).standard_normal(a.shape), 0, 1)
        a, b = a[None], b[None].astype(np.float32)
        assert ms_ssim(a, b) == pytest.approx([case["ms_ssim"]], abs=1e-5), case
        assert -10 * math.log10(np.mean((a - b) ** 2)) == pytest.approx(case["psnr"], abs=1e-3), case
