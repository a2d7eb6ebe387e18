"""How parts of a program are traced: once for all equal blocks, rematerialized, or apart from what is around them."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from tcm_jax.ops import cpu
from tcm_jax.ops.targets import Target, current, target


def traced_once(block: Any, params: Any, x: jax.Array) -> jax.Array:
    """`block.apply({"params": params}, x)`, traced once for all equal blocks, shapes and targets.

    `block` is a Flax module without a parent that holds no other modules in its attributes: those cannot be compared.
    """
    return _apply(block, current(), params, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(block: Any, wanted: Target, params: Any, x: jax.Array) -> jax.Array:
    with target(wanted):
        return block.apply({"params": params}, x)


def rematerialized(function: Callable[[Any, jax.Array], jax.Array], params: Any, x: jax.Array) -> jax.Array:
    """`function(params, x)`, of which only `params` and `x` are kept: its gradient computes it again."""
    if current().on_cpu:
        return cpu.rematerialized(function, params, x)
    return jax.checkpoint(function)(params, x)


def kept_apart(function: Callable[..., Any], *args: Any, when: jax.Array) -> Any:
    """`function(*args)`, computed once whatever uses it; `when` is any condition on values that XLA does not know.

    XLA's CPU compiler copies scalars into the loops over what they scale, and makes a kernel of its own for each slice
    whose start it knows. On accelerators a condition would wait for the host.
    """
    if current().on_cpu:
        return cpu.kept_apart(function, *args, when=when, otherwise=function)
    return function(*args)
