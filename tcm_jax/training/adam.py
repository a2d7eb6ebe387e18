"""Adam to PyTorch's precision."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tcm_jax import ops


def adam(learning_rate: float | optax.Schedule, b1=0.9, b2=0.999, eps=1e-8) -> optax.GradientTransformation:
    """`optax.adam` with its bias corrections to the last bit: `1 - 0.999**count` in float32 is off by 1e-5 at first."""

    def init(params):
        mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=mu, nu=nu)

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        correction1, correction2 = once_a_step(lambda count: [-jnp.expm1(count * math.log(b)) for b in (b1, b2)], count)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, grads)
        updates = jax.tree.map(lambda m, v: m / correction1 / (jnp.sqrt(v / correction2) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.chain(optax.GradientTransformation(init, update), scale_by(learning_rate))


def scale_by(learning_rate: float | optax.Schedule) -> optax.GradientTransformation:
    """`optax.scale_by_learning_rate`, with a schedule evaluated once a step."""
    if not callable(learning_rate):
        return optax.scale_by_learning_rate(learning_rate)
    return optax.scale_by_learning_rate(lambda count: once_a_step(learning_rate, count))


def once_a_step(function: Callable[[jax.Array], Any], count: jax.Array) -> Any:
    """`function(count)`, scalars: not in the loops over what they scale, where XLA's CPU compiler puts them."""
    return ops.kept_apart(function, count, when=count < 0)
