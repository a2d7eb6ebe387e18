"""The factorized prior of the hyper-latents z (Balle et al., 2018, Appendix 6.1; CompressAI's `EntropyBottleneck`).

The maths takes `params`, a dict of arrays: `matrices_0..4` [C, out, in], `biases_0..4` [C, out, 1], `factors_0..3`
[C, out, 1], `quantiles` [C, 1, 3] (left tail, median, right tail). `logits_cumulative` runs on NumPy and JAX alike.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax import ops
from tcm_jax.entropy.gaussian import LIKELIHOOD_MIN

LAYERS = 5
FILTERS = (1, 3, 3, 3, 3, 1)
INIT_SCALE = 10.0
TAIL_MASS = 1e-9


def logits_cumulative(params: dict[str, Any], x):
    """Logit of the cumulative distribution at `x` [C, 1, n], one distribution a channel; NumPy or JAX arrays."""
    xp: Any = jnp if isinstance(x, jax.Array) else np
    logits = x
    for i in range(LAYERS):
        logits = xp.matmul(xp.logaddexp(params[f"matrices_{i}"], 0.0), logits) + params[f"biases_{i}"]
        if i < LAYERS - 1:
            logits = logits + xp.tanh(params[f"factors_{i}"]) * xp.tanh(logits)
    return logits


def init(rng: jax.Array, channels: int) -> dict[str, jax.Array]:
    """Initial float32 parameters: a distribution of about `INIT_SCALE` units around 0."""
    scale = INIT_SCALE ** (1 / LAYERS)
    params = {"quantiles": jnp.tile(jnp.array([-INIT_SCALE, 0.0, INIT_SCALE]), (channels, 1, 1))}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(FILTERS)):
        matrix = math.log(math.expm1(1 / scale / fan_out))
        params[f"matrices_{i}"] = jnp.full((channels, fan_out, fan_in), matrix, jnp.float32)
        rng, key = jax.random.split(rng)
        params[f"biases_{i}"] = jax.random.uniform(key, (channels, fan_out, 1), minval=-0.5, maxval=0.5)
        if i < LAYERS - 1:
            params[f"factors_{i}"] = jnp.zeros((channels, fan_out, 1))
    return params


def medians(params: dict[str, jax.Array]) -> jax.Array:
    """Centre of each channel's distribution, [C]; z is rounded relative to it."""
    return params["quantiles"][:, 0, 1]


def likelihood(params: dict[str, jax.Array], z: jax.Array) -> jax.Array:
    """Probability of the unit-wide bin around each value of `z` [..., C]; same shape, in [1e-9, 1]."""
    x = jnp.moveaxis(z, -1, 0).reshape(z.shape[-1], 1, -1)
    lower, upper = logits_cumulative(params, x - 0.5), logits_cumulative(params, x + 0.5)
    mass = jax.nn.sigmoid(upper) - jax.nn.sigmoid(lower)
    mass = jnp.moveaxis(mass.reshape(z.shape[-1], *z.shape[:-1]), 0, -1)
    return ops.lower_bound(mass, LIKELIHOOD_MIN)


def auxiliary_loss(params: dict[str, jax.Array]) -> jax.Array:
    """How far the quantiles are from the tails and the median; only `quantiles` gets a gradient."""
    frozen = {key: jax.lax.stop_gradient(value) for key, value in params.items()}
    target = math.log(2 / TAIL_MASS - 1)
    return jnp.abs(logits_cumulative(frozen, params["quantiles"]) - jnp.array([-target, 0.0, target])).sum()
