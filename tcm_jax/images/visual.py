"""The mixture of errors that networks and encoders are tuned for the eye by; its weights are this project's own."""

import jax
import numpy as np

from tcm_jax.images.metrics import MS_SSIM_MIN_SIDE, ms_ssim, squared_error_of_ms_ssim
from tcm_jax.images.ssimulacra2 import squared_error_of_score, ssimulacra2

SQUARED, SIMILARITY, SCORE = 0.4, 0.2, 0.4  # how much the squared error, MS-SSIM and SSIMULACRA 2 count


def visual_error(x: jax.Array | np.ndarray, x_hat: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Originals and pictures [B, H, W, 3] in [0, 1] to a mean squared error of 8 bits, float32 [B], differentiable.

    MS-SSIM and SSIMULACRA 2 are turned into the squared error that goes with them on photographs. Pictures too small
    for MS-SSIM have SSIMULACRA 2 in its place.
    """
    similarity, score = SIMILARITY, SCORE
    if min(x.shape[1:3]) < MS_SSIM_MIN_SIDE:
        similarity, score = 0.0, similarity + score
    error = SQUARED * 255**2 * ((x_hat - x) ** 2).mean((1, 2, 3))
    if similarity:
        error += similarity * squared_error_of_ms_ssim(ms_ssim(x_hat, x))
    return error + score * squared_error_of_score(ssimulacra2(x, x_hat.clip(0, 1)))
