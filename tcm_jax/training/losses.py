"""The rate-distortion loss (Eq. 1 and 2 of the paper; Sec. 4.1 for its first two distortions)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.images import metrics
from tcm_jax.images.visual import visual_error

Pictures = jax.Array | np.ndarray


def bits_per_pixel(likelihoods: list[jax.Array], pixels: int) -> jax.Array:
    """Information content of `likelihoods` [B, h, w, C] in bits, over `pixels` of a picture: float32 [B]."""
    bits: Any = -sum(jnp.log2(likelihood).sum((1, 2, 3)) for likelihood in likelihoods)
    return bits / pixels


def _mse(x_hat: Pictures, x: Pictures) -> Pictures:
    return 255**2 * ((x_hat - x) ** 2).mean((1, 2, 3))


def _ms_ssim(x_hat: Pictures, x: Pictures) -> Pictures:
    return 1 - metrics.ms_ssim(x_hat, x)


def _visual(x_hat: Pictures, x: Pictures) -> Pictures:
    """In units of the squared error, so that lambdas are those of "mse"."""
    return visual_error(x, x_hat)


# By name: pictures [B, H, W, 3] and originals in [0, 1], JAX or NumPy arrays, to the distortion of each, float32 [B].
DISTORTIONS: dict[str, Callable[[Pictures, Pictures], Pictures]] = {
    "mse": _mse,
    "ms_ssim": _ms_ssim,
    "visual": _visual,
}


def least_side(distortion: str) -> int:
    """Pixels a side that pictures need at least for a distortion of DISTORTIONS."""
    return 1 if distortion == "mse" else metrics.MS_SSIM_MIN_SIDE


def rate_distortion(
    x: jax.Array,
    x_hat: jax.Array,
    likelihoods: list[jax.Array],
    lam: float | jax.Array,
    distortion: str,
    weight: float | jax.Array = 1.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss and its parts for a batch of pictures [B, H, W, 3] in [0, 1].

    `lam * DISTORTIONS[distortion] + bpp`: 255**2 * MSE for "mse", 1 - MS-SSIM for "ms_ssim", a mixture with
    SSIMULACRA 2 for "visual". `lam` is one number or one a picture, [B], as is `weight`, by which a picture's loss
    counts. The parts are float32 scalars: loss, bpp, mse, psnr (of the mean MSE, in dB), distortion.
    """
    bpp = bits_per_pixel(likelihoods, x.shape[1] * x.shape[2])
    distorted = DISTORTIONS[distortion](x_hat, x)
    loss = jnp.mean(weight * (lam * distorted + bpp))
    mse = jnp.mean((x_hat - x) ** 2)
    psnr = -10 * jnp.log10(mse)
    return loss, {"loss": loss, "bpp": jnp.mean(bpp), "mse": mse, "psnr": psnr, "distortion": jnp.mean(distorted)}
