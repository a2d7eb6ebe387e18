"""Models of a residual layer that no encoder fits: any numbers that the format allows."""

import numpy as np

from tcm_jax.codec.residual.fit import Model
from tcm_jax.codec.residual.tables import EXPONENTS, WIDTHS
from tcm_jax.entropy.pixel_coder import LEVELS
from tcm_jax.entropy.pixel_prediction import ACTIVITIES, BLOCK, TAPS


def drawn_model(shape: tuple[int, ...], step: int, seed: int) -> Model:
    """A model for a picture [H, W, channels]; every second one predicts at random, the others not far from W."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    classes = int(rng.integers(1, 256))
    most = 2**15 if seed % 2 else 40
    coefs = rng.integers(-most, most, (channels, classes, TAPS), dtype=np.int32)
    weights = rng.integers(-most, most, (channels, ACTIVITIES), dtype=np.int32)
    if not seed % 2:
        coefs[..., 0] += 256
        weights[..., :6] += 40
    shapes = rng.integers(0, (WIDTHS, len(EXPONENTS)), (channels * LEVELS, 2)).astype(np.uint8)
    blocks = rng.integers(0, classes, (-(-height // BLOCK), -(-width // BLOCK))).astype(np.uint8)
    return Model(step, coefs, weights, shapes, blocks)
