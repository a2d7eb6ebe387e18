"""The rate-distortion loss (Eq. 1 and 2 of the paper; Sec. 4.1 for its two distortions)."""

import jax
import jax.numpy as jnp

from tcm_jax.images import metrics

DISTORTIONS = ("mse", "ms_ssim")


def bits_per_pixel(likelihoods: list[jax.Array], pixels: int) -> jax.Array:
    """Information content of `likelihoods` [B, h, w, C] in bits, over `pixels` of a picture: float32 [B]."""
    return -sum(jnp.log2(likelihood).sum((1, 2, 3)) for likelihood in likelihoods) / pixels


def rate_distortion(
    x: jax.Array,
    x_hat: jax.Array,
    likelihoods: list[jax.Array],
    lam: float | jax.Array,
    distortion: str,
    weight: float | jax.Array = 1.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss and its parts for a batch of pictures [B, H, W, 3] in [0, 1].

    `lam * 255**2 * MSE + bpp` for distortion "mse", `lam * (1 - MS-SSIM) + bpp` for "ms_ssim"; `lam` is one number or
    one a picture, [B], as is `weight`, by which a picture's loss counts. The parts are float32 scalars: loss, bpp, mse,
    psnr (of the mean MSE, in dB) and, for "ms_ssim", ms_ssim.
    """
    bpp = bits_per_pixel(likelihoods, x.shape[1] * x.shape[2])
    squared = jnp.mean((x_hat - x) ** 2, axis=(1, 2, 3))
    mse = jnp.mean(squared)
    parts = {"bpp": jnp.mean(bpp), "mse": mse, "psnr": -10 * jnp.log10(mse)}
    if distortion == "mse":
        loss = jnp.mean(weight * (lam * 255**2 * squared + bpp))
    else:
        similarity = metrics.ms_ssim(x_hat, x)
        parts["ms_ssim"] = jnp.mean(similarity)
        loss = jnp.mean(weight * (lam * (1 - similarity) + bpp))
    return loss, {"loss": loss, **parts}
