"""Array functions without parameters: bounds, rounding and sub-pixel shuffling. All maps are NHWC."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

_Map = TypeVar("_Map", jax.Array, np.ndarray)


@jax.custom_vjp
def lower_bound(x: jax.Array, bound: float) -> jax.Array:
    """`max(x, bound)` whose gradient also passes where it would move a bounded value back up.

    Any shape and float dtype. As CompressAI's `LowerBound`: below the bound only a negative gradient
    (which raises `x` under gradient descent) passes.
    """
    return jnp.maximum(x, bound)


def _lower_bound_forward(x, bound):
    return jnp.maximum(x, bound), x >= bound


def _lower_bound_backward(inside, gradient):
    return jnp.where(inside | (gradient < 0), gradient, 0), None


lower_bound.defvjp(_lower_bound_forward, _lower_bound_backward)


def ste_round(x: jax.Array) -> jax.Array:
    """Round half to even; the gradient is the identity (straight-through estimator)."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    """Depth to space: [B, H, W, f*f*C] with channels ordered (row, column, C) to [B, f*H, f*W, C].

    PyTorch's `PixelShuffle` orders channels (C, row, column); `SubpelConv` permutes its kernel, which
    is smaller than the map.
    """
    batch, height, width, channels = x.shape
    depth = channels // factor**2
    x = x.reshape(batch, height, width, factor, factor, depth)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * factor, width * factor, depth)


def pixel_unshuffle(x: _Map, factor: int = 2) -> _Map:
    """Space to depth, the inverse of `pixel_shuffle`: [B, f*H, f*W, C] to [B, H, W, f*f*C], (row, column, C)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // factor, width // factor, factor**2 * channels)
