"""Effective receptive fields: how much a latent or an output pixel hangs on every pixel of the picture (Sec. 4.5)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.errors import ConfigError
from tcm_jax.evaluation.analysis.latents import padded
from tcm_jax.model.config import LATENT_STRIDE
from tcm_jax.model.tcm import TCM
from tcm_jax.weights.weights import Weights

OUTPUTS = ("latent", "picture")  # a position of y; a pixel of g_s(g_a(x)), without rounding
THRESHOLDS = (0.01, 0.0001)  # the paper's


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradient(model: TCM, of: str, params, picture, level, row, column):
    def output(x):
        y: Any = model.apply({"params": params}, x, level, method="analysis")
        if of == "latent":
            return y[0, row // LATENT_STRIDE, column // LATENT_STRIDE].sum()
        decoded: Any = model.apply({"params": params}, y, level, method="synthesis")
        return decoded[0, row, column].sum()

    return jax.grad(output)(picture[None].astype(jnp.float32) / 255)[0]


def receptive_field(
    weights: Weights, image: np.ndarray, x: int, y: int, of: str = "latent", level: np.ndarray | None = None
) -> np.ndarray:
    """Absolute gradient of the output at pixel (x, y), summed over its channels: float32 [H, W], its largest value 1.

    The mean over the picture's colours. "latent": of the position of y that the pixel lies in; "picture": of the
    reconstructed pixel. Raises ConfigError for a pixel outside of the picture.
    """
    height, width = image.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise ConfigError(f"the point ({x}, {y}) lies outside of the picture, which is {width}x{height}")
    gradient = _gradient(TCM(weights.config), of, weights.params, padded(image), level, y, x)
    strength = np.abs(np.asarray(gradient)).mean(-1)[:height, :width]
    return strength / max(float(strength.max()), np.finfo(np.float32).tiny)


def reach(field: np.ndarray, threshold: float) -> dict[str, float]:
    """{"share" of the pixels above the threshold, in percent; "height" and "width" of the box around them, pixels}."""
    rows, columns = np.nonzero(field > threshold)
    height, width = (int(np.ptp(at)) + 1 if at.size else 0 for at in (rows, columns))
    return {"share": 100 * float((field > threshold).mean()), "height": height, "width": width}
