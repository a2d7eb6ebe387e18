"""Adam to PyTorch's precision."""

import math

import jax
import jax.numpy as jnp
import optax


def adam(learning_rate: float | optax.Schedule, b1=0.9, b2=0.999, eps=1e-8) -> optax.GradientTransformation:
    """`optax.adam` with its bias corrections to the last bit: `1 - 0.999**count` in float32 is off by 1e-5 at first."""

    def init(params):
        mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=mu, nu=nu)

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, grads)
        correction1, correction2 = (-jnp.expm1(count * math.log(b)) for b in (b1, b2))
        updates = jax.tree.map(lambda m, v: m / correction1 / (jnp.sqrt(v / correction2) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate))
