"""The Gaussian conditional of the latents y (Eq. 8 of the paper; CompressAI's `GaussianConditional`)."""

import jax
import jax.numpy as jnp

from tcm_jax import ops

SCALE_MIN = 0.11
LIKELIHOOD_MIN = 1e-9


def likelihood(residual: jax.Array, sigma: jax.Array) -> jax.Array:
    """Probability of the unit-wide bin around `residual` = y - mu under N(0, sigma); same shape, in [1e-9, 1].

    `sigma` below 0.11 counts as 0.11. Both tails are evaluated on the negative side, where `erfc` is precise.
    """
    sigma = ops.lower_bound(sigma, SCALE_MIN)
    residual = jnp.abs(residual)
    mass = _cumulative((0.5 - residual) / sigma) - _cumulative((-0.5 - residual) / sigma)
    return ops.lower_bound(mass, LIKELIHOOD_MIN)


def _cumulative(x: jax.Array) -> jax.Array:
    return 0.5 * jax.lax.erfc(-(2**-0.5) * x)
