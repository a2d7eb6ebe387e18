"""Our kernels with gradients of their maps, for searches of a map through layers that stay as they are.

The functions are those of kernels/. Whoever asks for the gradient of a parameter gets a TypeError.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from tcm_jax.ops import kernels
from tcm_jax.ops.cpu_gradients import convolve_by_xla
from tcm_jax.ops.maps import pixel_unshuffle


def _differentiable(function: Callable, backward: Callable) -> Callable:
    """`function(maps, parameters, *options)` of two tuples, with gradients of the maps.

    `backward(maps, parameters, result, gradient, *options)` returns them, from the gradient of the result. Options are
    hashable.
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def of_maps(options, maps, parameters):
        return function(maps, parameters, *options)

    def run_forward(options, maps, parameters):
        if any(parameter.perturbed for parameter in jax.tree.leaves(parameters)):
            raise TypeError("the kernels for CPUs have gradients of maps, not of parameters; trace for another target")
        maps, parameters = jax.tree.map(lambda argument: argument.value, (maps, parameters))
        result = function(maps, parameters, *options)
        return result, (maps, parameters, result)

    def run_backward(options, kept, gradient):
        return backward(*kept, jax.tree.map(_dense, gradient), *options), None

    of_maps.defvjp(run_forward, run_backward, symbolic_zeros=True)
    return lambda maps, parameters, *options: of_maps(options, maps, parameters)


def _dense(gradient: Any) -> jax.Array:
    return jnp.zeros(gradient.shape, gradient.dtype) if isinstance(gradient, SymbolicZero) else gradient


def _convolve_backward(maps, parameters, y, gradient, slope, factor):
    (x,), (kernel, _) = maps, parameters
    gradient = jnp.where(y > 0, gradient, slope * gradient) if slope != 1 else gradient
    gradient = pixel_unshuffle(gradient, factor) if factor > 1 else gradient
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return (kernels.convolve(gradient, turned, jnp.zeros(x.shape[-1], x.dtype), 1.0),)


_convolve = _differentiable(
    lambda maps, parameters, *options: kernels.convolve(*maps, *parameters, *options), _convolve_backward
)


def convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array, slope: float, factor: int) -> jax.Array:
    """As `kernels.convolve`, with gradients of `x`."""
    return _convolve((x,), (kernel, bias), slope, factor)


def _strided_backward(maps, parameters, y, gradient, slope):
    (x,), (kernel, _) = maps, parameters
    gradient = jnp.where(y > 0, gradient, slope * gradient) if slope != 1 else gradient
    return jax.vjp(lambda x: convolve_by_xla(x, kernel, 2), x)[1](gradient)


_convolve_strided = _differentiable(
    lambda maps, parameters, *options: kernels.convolve_strided(*maps, *parameters, *options), _strided_backward
)


def convolve_strided(x: jax.Array, kernel: jax.Array, bias: jax.Array, slope: float) -> jax.Array:
    """As `kernels.convolve_strided`, with gradients of `x`."""
    return _convolve_strided((x,), (kernel, bias), slope)


def _product_forward(maps, parameters, outputs):
    (xs, residual), (kernel, bias) = maps, parameters
    return kernels.product(xs, kernel, bias, residual, outputs)


def _product_backward(maps, parameters, _, gradients, outputs):
    (xs, residual), (kernel, _) = maps, parameters
    whole = gradients if len({g.shape[-1] for g in gradients}) == 1 else [jnp.concatenate(gradients, -1)]
    of_xs = kernels.product(whole, kernel.T, jnp.zeros(len(kernel), kernel.dtype), None, len(xs))
    return of_xs, None if residual is None else jnp.concatenate(gradients, -1)


_product = _differentiable(_product_forward, _product_backward)


def product(
    xs: list[jax.Array], kernel: jax.Array, bias: jax.Array, residual: jax.Array | None, outputs: int
) -> list[jax.Array]:
    """As `kernels.product`, with gradients of `xs` and `residual`."""
    return _product((xs, residual), (kernel, bias), outputs)


def _gdn_backward(maps, parameters, _, gradient, inverse):
    (x, _), (gamma, beta) = maps, parameters
    (norm,) = kernels.product([x**2], gamma, beta)
    root = jnp.sqrt(norm)
    scale, inner = (root, gradient * x / root) if inverse else (1 / root, -gradient * x / (root * norm))
    (through,) = kernels.product([inner], gamma.T, jnp.zeros_like(beta))
    return gradient * scale + x * through, gradient


def _gdn_forward(maps, parameters, inverse):
    (x, residual), (gamma, beta) = maps, parameters
    return kernels.gdn(x, gamma, beta, residual, inverse)


_gdn = _differentiable(_gdn_forward, _gdn_backward)


def gdn(x: jax.Array, gamma: jax.Array, beta: jax.Array, residual: jax.Array, inverse: bool) -> jax.Array:
    """As `kernels.gdn`, with gradients of `x` and `residual`."""
    return _gdn((x, residual), (gamma, beta), inverse)


def pointwise(kernel: Callable[..., jax.Array], plain: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A kernel of maps of one shape, with the gradient of what computes the same in plain JAX."""
    function = _differentiable(
        lambda maps, _: kernel(*maps), lambda maps, _, y, gradient: jax.vjp(plain, *maps)[1](gradient)
    )
    return lambda *maps: function(maps, ())


def _swin_backward(maps, parameters, _, gradient, *options):
    (x,) = maps
    return (kernels.swin_block_gradient(x, gradient, *parameters, *options),)


_swin_block = _differentiable(
    lambda maps, parameters, *options: kernels.swin_block(*maps, *parameters, *options), _swin_backward
)


def swin_block(
    x: jax.Array, biases: jax.Array, layers: list[jax.Array], window: int, head_dim: int, shifted: bool
) -> jax.Array:
    """As `kernels.swin_block`, with gradients of `x`."""
    return _swin_block((x,), (biases, layers), window, head_dim, shifted)
