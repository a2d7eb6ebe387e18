"""The rate-distortion loss (Eq. 1 and 2 of the paper; Sec. 4.1 for its two distortions)."""

import jax
import jax.numpy as jnp

from tcm_jax import metrics

DISTORTIONS = ("mse", "ms_ssim")


def bits_per_pixel(likelihoods: list[jax.Array], pixels: int) -> jax.Array:
    """Information content of all `likelihoods` in bits, over `pixels` (batch x height x width); a float32 scalar."""
    return -sum(jnp.log2(likelihood).sum() for likelihood in likelihoods) / pixels


def rate_distortion(
    x: jax.Array, x_hat: jax.Array, likelihoods: list[jax.Array], lam: float, distortion: str
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss and its parts for a batch of pictures [B, H, W, 3] in [0, 1].

    `lam * 255**2 * MSE + bpp` for distortion "mse", `lam * (1 - MS-SSIM) + bpp` for "ms_ssim". The parts are float32
    scalars: loss, bpp, mse, psnr (of the mean MSE, in dB) and, for "ms_ssim", ms_ssim.
    """
    bpp = bits_per_pixel(likelihoods, x.shape[0] * x.shape[1] * x.shape[2])
    mse = jnp.mean((x_hat - x) ** 2)
    parts = {"bpp": bpp, "mse": mse, "psnr": -10 * jnp.log10(mse)}
    if distortion == "mse":
        loss = lam * 255**2 * mse + bpp
    else:
        parts["ms_ssim"] = jnp.mean(metrics.ms_ssim(x_hat, x))
        loss = lam * (1 - parts["ms_ssim"]) + bpp
    return loss, {"loss": loss, **parts}
