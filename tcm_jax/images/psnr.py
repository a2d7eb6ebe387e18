"""How near a picture is to its original: squared error and PSNR."""

import math

import numpy as np

from tcm_jax.errors import ImageError


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures [H, W] or [H, W, 3] in dB; infinite for equal ones.

    Raises ImageError if their shapes differ.
    """
    mse = mean_squared_error(a, b)
    return float(10 * np.log10(255**2 / mse)) if mse else math.inf


def mean_squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Over all samples of two pictures of one shape; row by row, as large ones are not held as floats.

    Raises ImageError if their shapes differ.
    """
    if a.shape != b.shape:
        raise ImageError(f"pictures of shapes {a.shape} and {b.shape} cannot be compared")
    rows = zip(a, b, strict=True)
    return sum(float(np.square(x.astype(np.float64) - y.astype(np.float64)).sum()) for x, y in rows) / a.size
