"""How a block runs: traced once with all its equals, or so that its gradient keeps its input alone."""

import flax.linen as nn
import jax

from tcm_jax import ops


def run(block: nn.Module, x: jax.Array, remat: bool = False) -> jax.Array:
    """`block(x)`, traced once for all blocks that differ in the values of their parameters alone.

    With `remat` it is not, and its gradient computes it again from `x`. `block` holds no other modules in its
    attributes unless `remat`: those cannot be compared.
    """
    if block.is_initializing():
        return block(x)
    unbound, params = block.clone(parent=None, name=None), block.variables["params"]
    if remat:
        return ops.rematerialized(lambda params, x: unbound.apply({"params": params}, x), params, x)
    return ops.traced_once(unbound, params, x)


class Stack(nn.Sequential):
    """Layers one after the other, each by `run`."""

    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = run(layer, x, self.remat) if isinstance(layer, nn.Module) else layer(x)
        return x
