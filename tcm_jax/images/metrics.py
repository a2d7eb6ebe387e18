"""How near a picture is to its original: MS-SSIM, and what metrics share."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.errors import ImageError
from tcm_jax.images.blur import TAPS, blurred

# Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment" (2003).
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_C1, _C2 = 0.01**2, 0.03**2

# Four halvings must leave a whole window.
MS_SSIM_MIN_SIDE = (TAPS - 1) * 2 ** (len(_WEIGHTS) - 1) + 1


def ms_ssim(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Multi-scale structural similarity, with the conventions of pytorch_msssim at data range 1.

    float [B, H, W, C] in [0, 1], twice -> float [B] in [0, 1]; 1 for equal pictures. JAX arrays give a JAX array and
    can be jitted and differentiated, finitely so where a similarity is negative; NumPy arrays are computed without
    compilation.

    Raises ImageError if the shapes differ or a side is shorter than `MS_SSIM_MIN_SIDE`.
    """
    xp = library_of(a, b, "MS-SSIM", MS_SSIM_MIN_SIDE)
    product: Any = 1.0
    for scale, weight in enumerate(_WEIGHTS):
        last = scale == len(_WEIGHTS) - 1
        similarity = _similarity(a, b, with_luminance=last)
        # The gradient of 0 ** weight is infinite: take the power of another number there.
        positive = similarity > 0
        product *= xp.where(positive, xp.where(positive, similarity, 1.0) ** weight, 0.0)
        if not last:
            a, b = _halve(a, xp), _halve(b, xp)
    return product.mean(-1)


def library_of(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray, metric: str, least: int) -> Any:
    """`jax.numpy` if one of two pictures [B, H, W, C] is a JAX array, else `numpy`: what `metric` computes with.

    Raises ImageError if the shapes differ or a side has fewer than `least` pixels.
    """
    if a.shape != b.shape:
        raise ImageError(f"pictures of shapes {a.shape} and {b.shape} cannot be compared")
    if min(a.shape[1:3]) < least:
        raise ImageError(f"{metric} needs at least {least} pixels a side; the picture is {a.shape[2]}x{a.shape[1]}")
    return jnp if isinstance(a, jax.Array) or isinstance(b, jax.Array) else np


def ms_ssim_db(value: float) -> float:
    """MS-SSIM on a logarithmic scale, -10 log10(1 - value), in dB; infinite for 1."""
    return -10 * math.log10(1 - value) if value < 1 else math.inf


def squared_error_of_ms_ssim(value: float | jax.Array | np.ndarray) -> float | jax.Array | np.ndarray:
    """The mean squared error of 8 bits that goes with an MS-SSIM on photographs; it is proportional to 1 - MS-SSIM.

    The factor is this project's own: 0.02 in units of 255**2, for which `python benchmarks/metric_units.py kodak`
    printed 0.0236 (commit 61e1511).
    """
    return 255**2 * 0.02 * (1 - value)


def _similarity(a, b, with_luminance: bool):
    """Mean contrast-structure similarity, times luminance if asked for: [B, H, W, C] -> [B, C]."""
    mean_a, mean_b, squares, product = blurred([a, b, a * a + b * b, a * b])
    squared_means = mean_a * mean_a + mean_b * mean_b
    similarity = (2 * (product - mean_a * mean_b) + _C2) / (squares - squared_means + _C2)
    if with_luminance:
        similarity *= (2 * mean_a * mean_b + _C1) / (squared_means + _C1)
    return similarity.mean((1, 2))


def _halve(x, xp):
    """Means of 2x2 pixels; an odd side gets a zero in front, as PyTorch's padding does."""
    batch, height, width, channels = x.shape
    x = xp.pad(x, ((0, 0), (height % 2, 0), (width % 2, 0), (0, 0)))
    return x.reshape(batch, (height + 1) // 2, 2, (width + 1) // 2, 2, channels).mean((2, 4))
