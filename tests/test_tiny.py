"""The embedded network keeps within what it promises: size, parameters, and work per pixel."""

import numpy as np
import pytest

from configs import tcm_tiny_psnr
from configs.tcm_tiny import MODEL
from tcm_jax.model import complexity
from tcm_jax.model.config import reference_config
from tcm_jax.model.tcm import flat_shapes
from tcm_jax.weights import files
from tcm_jax.weights.embedded import EMBEDDED

HEIGHT, WIDTH = 512, 768


def work(config) -> float:
    """kMAC a pixel of encoding plus decoding: one pass without g_s and one without g_a and h_a."""
    macs = {part: count.total for part, count in complexity.macs(config, HEIGHT, WIDTH).items()}
    both = 2 * sum(macs.values()) - macs["g_s"] - macs["g_a"] - macs["h_a"]
    return both / (HEIGHT * WIDTH) / 1000


def test_parameters_and_work():
    assert sum(np.prod(shape) for shape in flat_shapes(MODEL).values()) == 4_893_219
    assert work(MODEL) == pytest.approx(52.6, abs=0.1)


def test_parameters_and_work_of_the_second_generation():
    """At the highest quality: a fourth more work, a third more parameters."""
    assert sum(np.prod(shape) for shape in flat_shapes(tcm_tiny_psnr.MODEL).values()) == 6_603_363
    assert work(tcm_tiny_psnr.MODEL) == pytest.approx(65.8, abs=0.1)
    assert complexity.macs(tcm_tiny_psnr.MODEL, 128, 128)["detail"].total / 128**2 == pytest.approx(5_077, abs=2)


@pytest.mark.slow
def test_the_count_agrees_with_an_independent_one():
    """215.3 + 4.7 GMAC for one pass of the small network at 768x512, by another program; both runs share the slices."""
    config = reference_config(64)
    shared = 113.8  # kMAC a pixel of hyper-synthesis and slices
    assert work(config) - shared == pytest.approx((215.3 + 4.7) * 1e6 / (HEIGHT * WIDTH), rel=2e-3)


@pytest.mark.parametrize(
    ("tune", "distortion", "size"),
    [
        ("psnr", "mse", 10_300_000),
        ("visual", "visual", 10_300_000),
    ],
)
def test_embedded_weights(tune, distortion, size):
    weights = files.load_weights(tune=tune)
    assert (weights.name, weights.metadata["distortion"]) == (f"tcm_tiny_{tune}", distortion)
    assert weights.config == tcm_tiny_psnr.MODEL
    assert EMBEDDED[tune].stat().st_size < size
