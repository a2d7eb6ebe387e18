"""The embedded network keeps within what it promises: size, parameters, and work per pixel."""

import jax
import numpy as np
import pytest

from configs.tcm_tiny import MODEL
from tcm_jax import checkpoint
from tcm_jax.model import TCM, flat_shapes, parameter_shapes
from tcm_jax.model_config import reference_config
from tcm_jax.work import macs

HEIGHT, WIDTH = 512, 768


def work(config) -> float:
    """kMAC a pixel of encoding plus decoding; both run the hyper-synthesis and the slices."""
    variables = {"params": parameter_shapes(config)}

    def count(method, *shapes):
        arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
        return macs(jax.make_jaxpr(lambda v, *a: TCM(config).apply(v, *a, method=method))(variables, *arrays).jaxpr)

    y = (1, HEIGHT // 16, WIDTH // 16, config.latent_channels)
    z = (1, HEIGHT // 64, WIDTH // 64, config.hyper_channels)
    picture = (1, HEIGHT, WIDTH, 3)
    whole = count("__call__", picture)
    both = whole - count("analysis", picture) - count("synthesis", y) - count("hyper_analysis", y)
    assert both > count("hyper_synthesis", z)
    return (whole + both) / (HEIGHT * WIDTH) / 1000


def test_parameters_and_work():
    assert sum(np.prod(shape) for shape in flat_shapes(MODEL).values()) == 4_473_575
    assert work(MODEL) == pytest.approx(59.6, abs=0.1)


def test_the_count_agrees_with_an_independent_one():
    """215.3 + 4.7 GMAC for one pass of the small network at 768x512, by another program; both runs share the slices."""
    config = reference_config(64)
    shared = 113.8  # kMAC a pixel of hyper-synthesis and slices
    assert work(config) - shared == pytest.approx((215.3 + 4.7) * 1e6 / (HEIGHT * WIDTH), rel=2e-3)


def test_embedded_weights():
    weights = checkpoint.load_weights()
    assert weights.config == MODEL
    assert weights.name == "tcm_tiny"
    assert checkpoint.EMBEDDED.stat().st_size < 10_000_000
