"""How a block is run: traced once with all its equals, or rematerialized.

Rematerialization: a block's gradient computes its forward pass again instead of keeping its intermediates.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.ops import kernels


def traced_once(block: nn.Module, x: jax.Array) -> jax.Array:
    """`block(x)`, traced once for all blocks that differ in the values of their parameters alone.

    `block` holds no other modules in its attributes: those cannot be compared.
    """
    if block.is_initializing():
        return block(x)
    return _apply(block.clone(parent=None, name=None), kernels.setting(), block.variables["params"], x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(block, _, params, x):  # the setting of the kernels, on which the trace depends
    return block.apply({"params": params}, x)


def rematerialized(block: nn.Module, x: jax.Array) -> jax.Array:
    """`block(x)`, of which only `x` is kept for the gradient."""
    if block.is_initializing():
        return block(x)
    unbound = block.clone(parent=None, name=None)

    def forward(params, x):
        return unbound.apply({"params": params}, x)

    apply = jax.custom_vjp(forward)

    def backward(kept, gradient):
        def pull_back(params, x, gradient):
            return jax.vjp(forward, params, x)[1](gradient)

        return _late(pull_back, *kept, gradient)

    apply.defvjp(lambda params, x: (forward(params, x), (params, x)), backward)
    return apply(block.variables["params"], x)


def _late(function, params, x, gradient):
    """Runs `function` apart from the forward pass, after `gradient` is known.

    XLA's CPU compiler drops optimization barriers and would merge both passes; into the branch of a condition that it
    cannot foresee it moves nothing. On other devices a condition costs a round trip to the host.
    """
    if jax.default_backend() != "cpu":
        return function(*jax.lax.optimization_barrier((params, x, gradient)))
    first = gradient.ravel()[0]
    return jax.lax.cond(first == first, function, _not_a_number, params, x, gradient)


def _not_a_number(params, x, _):
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), (params, x))


class Stack(nn.Sequential):
    """Layers one after the other, each traced once; with `remat` each is rematerialized."""

    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        run = rematerialized if self.remat else traced_once
        for layer in self.layers:
            x = run(layer, x) if isinstance(layer, nn.Module) else layer(x)
        return x
