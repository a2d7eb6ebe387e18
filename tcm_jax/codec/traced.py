"""The network's functions that become the codec's programs, of single tiles (tiled_network.py); they need JAX and Flax.

Grids are [h, w, channels] without a batch. The first arguments are the configuration and the parameters.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.entropy import factorized, gaussian
from tcm_jax.model.tcm import TCM

_LEVEL = np.float32(1 / 255)  # of 8 bits; a product, which compilers make of a quotient


def _apply(config, params, method, *args):
    """`method` of the network on single pictures or grids, given and returned without a batch."""
    args = jax.tree.map(lambda grid: grid[None] if np.ndim(grid) == 3 else grid, args)
    return jax.tree.map(lambda grid: grid[0], TCM(config).apply({"params": params}, *args, method=method))


def analysis(config, params, picture, level):
    return _apply(config, params, "analysis", picture.astype(jnp.float32) * _LEVEL, level)


def hyper_analysis(config, params, y, level):
    return _apply(config, params, "hyper_analysis", y, level) - factorized.medians(params["entropy_bottleneck"])


def synthesis(config, params, y_hat, level):
    x_hat = _apply(config, params, "synthesis", jnp.concatenate(y_hat, axis=-1), level)
    return jnp.round(jnp.clip(x_hat, 0, 1) * 255).astype(jnp.uint8)


def detailed_synthesis(config, params, y_hat, symbols, level):
    details = [part.astype(jnp.float32) for part in symbols]
    x_hat = _apply(config, params, "detailed_synthesis", jnp.concatenate(y_hat, axis=-1), details, level)
    return jnp.round(jnp.clip(x_hat, 0, 1) * 255).astype(jnp.uint8)


def detail_analysis(config, params, picture, y_hat, level):
    x = picture.astype(jnp.float32) * _LEVEL
    return _apply(config, params, "detail_analysis", x, jnp.concatenate(y_hat, axis=-1), level)


def detail_scales(config, params, i, symbols, sigmas, earlier, level):
    y_symbols, *details = (part.astype(jnp.float32) for part in (jnp.concatenate(symbols, axis=-1), *earlier))
    return _apply(config, params, "detail_scales", i, y_symbols, jnp.concatenate(sigmas, axis=-1), details, level)


def hyper_synthesis(config, params, z_symbols, level):
    z_hat = z_symbols.astype(jnp.float32) + factorized.medians(params["entropy_bottleneck"])
    return _apply(config, params, "hyper_synthesis", z_hat, level)


def slice_params(config, params, i, latent_means, latent_scales, previous):
    return _apply(config, params, "slice_params", i, latent_means, latent_scales, previous)


def second_step(config, params, i, symbols, mu, sigma):
    return _apply(config, params, "second_step", i, symbols.astype(jnp.float32), mu, sigma)


def slice_latents(config, params, i, symbols, mu, support):
    return _apply(config, params, "slice_latents", i, symbols.astype(jnp.float32), mu, support)


@jax.jit
def bits_y(symbols, sigma):
    return -jnp.log2(gaussian.likelihood(symbols.astype(jnp.float32), sigma))


@jax.jit
def bits_z(prior, z_symbols):
    return -jnp.log2(factorized.likelihood(prior, z_symbols.astype(jnp.float32) + factorized.medians(prior)))
