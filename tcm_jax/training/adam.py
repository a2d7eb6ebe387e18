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
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), *zero_moments(params))

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        mu, nu = moments(grads, state, b1, b2)
        direction = adam_direction(count, b1, b2, eps)
        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.chain(optax.GradientTransformation(init, update), scale_by(learning_rate))


def zero_moments(params: optax.Params) -> tuple[optax.Updates, optax.Updates]:
    """Zeros for `moments`, trees like `params`."""
    mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    return mu, nu


def moments(grads: optax.Updates, state: Any, b1: float, b2: float) -> tuple[optax.Updates, optax.Updates]:
    """Moving averages of the gradients and of their squares, from those of `state`, its `mu` and `nu`."""
    # optax.tree.update_moment adds in the other order, which changes the last bits of runs that go on.
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
    return mu, jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, grads)


def adam_direction(count: jax.Array, b1: float, b2: float, eps: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Function of both moments of an array after `count` updates: the update before it is scaled."""

    def corrections(count):
        return [-jnp.expm1(count.astype(jnp.float32) * math.log(b)) for b in (b1, b2)]

    correction1, correction2 = once_a_step(corrections, count)
    return lambda mu, nu: mu / correction1 / (jnp.sqrt(nu / correction2) + eps)


def scale_by(learning_rate: float | optax.Schedule) -> optax.GradientTransformation:
    """`optax.scale_by_learning_rate`, with a schedule evaluated once a step."""
    if not callable(learning_rate):
        return optax.scale_by_learning_rate(learning_rate)
    return optax.scale_by_learning_rate(lambda count: once_a_step(learning_rate, count))


def once_a_step(function: Callable[[jax.Array], Any], count: jax.Array) -> Any:
    """`function(count)`, scalars: not in the loops over what they scale, where XLA's CPU compiler puts them."""
    return ops.kept_apart(function, count, when=count < 0)
