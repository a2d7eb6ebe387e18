"""How parts of a program are traced: once for all equal blocks, rematerialized, or apart from what is around them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tcm_jax.ops.compile_target import Target, current, target


def traced_once(block: Any, params: Any, x: jax.Array) -> jax.Array:
    """`block.apply({"params": params}, x)`, traced once for all equal blocks, shapes and targets.

    `block` is a Flax module without a parent that holds no other modules in its attributes: those cannot be compared.
    """
    return _apply(block, current(), params, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(block: Any, wanted: Target, params: Any, x: jax.Array) -> jax.Array:
    with target(wanted):
        return block.apply({"params": params}, x)


def rematerialized(function: Callable[[Any, jax.Array], Any], params: Any, x: jax.Array) -> jax.Array:
    """`function(params, x)`, of which only `params` and `x` are kept: its gradient computes it again."""
    return _rematerialized_on_cpu(function, params, x) if current().on_cpu else jax.checkpoint(function)(params, x)


def _rematerialized_on_cpu(function, params, x):
    """XLA's CPU compiler drops `jax.checkpoint`'s barriers, and would merge the second forward pass with the first.

    So the second stands in a condition that XLA cannot foresee: that the gradient is not NaN.
    """
    traced_for, apply = current(), jax.custom_vjp(function)

    def backward(kept, gradient):
        def pull_back(params, x, gradient):
            with target(traced_for):
                return jax.vjp(function, params, x)[1](gradient)

        first = gradient.ravel()[0]
        return jax.lax.cond(first == first, pull_back, _not_a_number, *kept, gradient)

    apply.defvjp(lambda params, x: (function(params, x), (params, x)), backward)
    return apply(params, x)


def _not_a_number(params, x, _):
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), (params, x))


def kept_apart(function: Callable[..., Any], *args: Any, when: jax.Array) -> Any:
    """`function(*args)`, computed once whatever uses it; `when` is any condition on values that XLA does not know.

    XLA's CPU compiler copies scalars into the loops over what they scale, and makes a kernel of its own for each slice
    whose start it knows. On accelerators a condition would wait for the host.
    """
    return jax.lax.cond(when, function, function, *args) if current().on_cpu else function(*args)
