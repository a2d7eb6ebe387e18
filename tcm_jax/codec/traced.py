"""The network's functions that become the codec's programs, of single tiles (tiled_network.py); they need JAX and Flax.

Grids are float32 [h, w, channels] without a batch, symbols int32; pictures are uint8 [H, W, 3], of 16 h x 16 w pixels.
The first arguments are the configuration and the parameters; `level` is the gain level, float32 [1], or None for a
network of one rate. `model/tcm.py` has the methods of the same names.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.entropy import factorized, gaussian
from tcm_jax.model.tcm import TCM

_UNIT = np.float32(1 / 255)  # 8 bits to 0 .. 1; a product, which compilers make of a quotient


def _apply(config, params, method, *args):
    """`method` of the network on single pictures or grids, given and returned without a batch."""
    args = jax.tree.map(lambda grid: grid[None] if np.ndim(grid) == 3 else grid, args)
    return jax.tree.map(lambda grid: grid[0], TCM(config).apply({"params": params}, *args, method=method))


def analysis(config, params, picture, level):
    """g_a: a picture to y [h, w, latent_channels]."""
    return _apply(config, params, "analysis", picture.astype(jnp.float32) * _UNIT, level)


def hyper_analysis(config, params, y, level):
    """h_a: y to z less its medians [h / 4, w / 4, hyper_channels]."""
    return _apply(config, params, "hyper_analysis", y, level) - factorized.medians(params["entropy_bottleneck"])


def synthesis(config, params, y_hat, level):
    """g_s: the decoded slices of y to the picture."""
    return _rounded(_apply(config, params, "synthesis", jnp.concatenate(y_hat, axis=-1), level))


def detailed_synthesis(config, params, y_hat, symbols, level):
    """g_s and the `symbols` of detail slices, as many as there are, to the picture."""
    details = [part.astype(jnp.float32) for part in symbols]
    return _rounded(_apply(config, params, "detailed_synthesis", jnp.concatenate(y_hat, axis=-1), details, level))


def with_details(config, params, without_details, symbols, level):
    """What g_s made, float32 [H, W, 3], and the `symbols` of detail slices to the picture of `detailed_synthesis`."""
    details = [part.astype(jnp.float32) for part in symbols]
    return _rounded(_apply(config, params, "with_details", without_details, details, level))


def _rounded(x_hat):
    return jnp.round(jnp.clip(x_hat, 0, 1) * 255).astype(jnp.uint8)


def detail_analysis(config, params, picture, y_hat, level):
    """(all detail slices of a picture, not yet rounded, beside the decoded slices of y, what g_s makes of these)."""
    x = picture.astype(jnp.float32) * _UNIT
    return _apply(config, params, "detail_analysis", x, jnp.concatenate(y_hat, axis=-1), level)


def detail_scales(config, params, i, symbols, sigmas, earlier, level):
    """sigma of detail slice `i` from symbols and sigmas of all slices of y, and `earlier`, the symbols before it."""
    y_symbols, *details = (part.astype(jnp.float32) for part in (jnp.concatenate(symbols, axis=-1), *earlier))
    return _apply(config, params, "detail_scales", i, y_symbols, jnp.concatenate(sigmas, axis=-1), details, level)


def hyper_synthesis(config, params, z_symbols, level):
    """h_mean_s and h_scale_s: symbols of z to (latent means, latent scales) [h, w, latent_channels]."""
    z_hat = z_symbols.astype(jnp.float32) + factorized.medians(params["entropy_bottleneck"])
    return _apply(config, params, "hyper_synthesis", z_hat, level)


def slice_params(config, params, i, latent_means, latent_scales, previous):
    """(mu, sigma, support) of slice `i` of y; `previous` are the decoded slices before it."""
    return _apply(config, params, "slice_params", i, latent_means, latent_scales, previous)


def second_step(config, params, i, symbols, mu, sigma):
    """(mu, sigma) of slice `i` from symbols of which the black fields are known."""
    return _apply(config, params, "second_step", i, symbols.astype(jnp.float32), mu, sigma)


def slice_latents(config, params, i, symbols, mu, support):
    """Decoded slice `i` of y, with its latent residual prediction."""
    return _apply(config, params, "slice_latents", i, symbols.astype(jnp.float32), mu, support)


@jax.jit
def bits_y(symbols, sigma):
    """Bits of each symbol, int32, under N(0, sigma); float32 of its shape."""
    return -jnp.log2(gaussian.likelihood(symbols.astype(jnp.float32), sigma))


@jax.jit
def bits_z(prior, z_symbols):
    """Bits of each symbol of z, int32 [n, hyper_channels], under the factorized prior; float32 of its shape."""
    return -jnp.log2(factorized.likelihood(prior, z_symbols.astype(jnp.float32) + factorized.medians(prior)))
