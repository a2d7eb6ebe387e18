"""GDN, generalized divisive normalization (Balle et al., 2016), and its reparametrization, as in CompressAI."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax import ops

GDN_PEDESTAL = 2.0**-36
GDN_BETA_MIN = 1e-6


class GDN(nn.Module):
    """Generalized divisive normalization, `inverse=True` multiplies: [B, H, W, C], shape kept.

    `residual`, of the same shape, is added to the result.

    `x / sqrt(beta + gamma @ x**2)` with `beta` [C] and `gamma` [out, in] stored as square roots over a pedestal, so
    that they stay positive while training.
    """

    inverse: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, residual: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        beta = self.param("beta", lambda _, shape: jnp.full(shape, (1 + GDN_PEDESTAL) ** 0.5, jnp.float32), (channels,))
        gamma = self.param(
            "gamma", lambda _, shape: jnp.sqrt(0.1 * jnp.eye(shape[0]) + GDN_PEDESTAL), (channels, channels)
        )
        beta = _squared(ops.lower_bound(beta, (GDN_BETA_MIN + GDN_PEDESTAL) ** 0.5))
        gamma = _squared(ops.lower_bound(gamma, GDN_PEDESTAL**0.5))
        return ops.gdn(x, gamma, beta, residual, self.inverse)


def _squared(root: jax.Array) -> jax.Array:
    """What is stored as a root, without the pedestal."""
    return ops.multiply_add(root, root, jnp.full_like(root, -GDN_PEDESTAL))
