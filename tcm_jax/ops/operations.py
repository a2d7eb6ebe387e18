"""What the layers are made of, each computed by what suits the target: plain JAX, cpu_gradients.py, or our kernels.

Maps are NHWC, float32 or bfloat16; results have the type of the input, parameters are float32. The plain way is the
reference: the others compute the same up to the order of sums.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.ops import cpu_gradients, kernels, map_gradients
from tcm_jax.ops.compile_target import current
from tcm_jax.ops.maps import pixel_shuffle

LEAKY_SLOPE = 0.01
_NHWC = ("NHWC", "HWIO", "NHWC")


def conv3x3(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, *, stride: int = 1, leaky: bool = False, factor: int = 1
) -> jax.Array:
    """3x3 convolution with zero padding 1, bias, shuffle by `factor`, and LeakyReLU if `leaky`.

    [B, H, W, C] to [B, ceil(H/stride), ceil(W/stride), features]; with a factor, at stride 1 alone, to [B, f*H, f*W,
    features / f**2]. `kernel` [3, 3, C, features]: with a factor its outputs are ordered (row, column, feature).
    """
    target = current()
    if target.by_kernel(x):
        slope = LEAKY_SLOPE if leaky else 1.0
        if stride == 2:
            return map_gradients.convolve_strided(x, kernel, bias, slope)
        return map_gradients.convolve(x, kernel, bias, slope, factor)
    kernel = kernel.astype(x.dtype)
    if target.on_cpu:
        y = cpu_gradients.convolve(x, kernel, stride, target)
    else:
        y = cpu_gradients.convolve_by_xla(x, kernel, stride)
    y = y + bias.astype(x.dtype)
    y = pixel_shuffle(y, factor) if factor > 1 else y
    return jax.nn.leaky_relu(y, LEAKY_SLOPE) if leaky else y


def conv1x1(
    xs: Sequence[jax.Array], kernel: jax.Array, bias: jax.Array, *, residual: jax.Array | None = None, halves=False
) -> Any:
    """1x1 convolution of maps [..., C] side by side, plus `residual`: [..., features], or its two halves.

    `kernel` [all C, features].
    """
    target, dtype = current(), xs[0].dtype
    if target.by_kernel(xs[0]):
        as_one = len(xs) > 2 or len({x.shape[-1] for x in xs}) > 1  # the kernel takes one map, or two of a width
        xs = [jnp.concatenate(xs, axis=-1)] if as_one else list(xs)
        ys = map_gradients.product(xs, kernel, bias, residual, 2 if halves else 1)
        return ys if halves else ys[0]
    x = xs[0] if len(xs) == 1 else jnp.concatenate(xs, axis=-1)
    product = cpu_gradients.product if target.on_cpu else jnp.matmul
    y = product(x, kernel.astype(dtype)) + bias.astype(dtype)
    y = y if residual is None else residual + y
    return jnp.split(y, 2, axis=-1) if halves else y


def conv1x1_strided(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """1x1 convolution of every second row and column: [B, H, W, C] to [B, ceil(H/2), ceil(W/2), features].

    Accelerators convolve with stride 2: XLA's TPU compiler copies the map for a strided slice.
    """
    if current().on_cpu:
        for axis in (1, 2):  # an index would be a gather where sizes are not known yet
            x = jax.lax.slice_in_dim(x, 0, None, stride=2, axis=axis)
        return conv1x1([x], kernel, bias)
    kernel = kernel.astype(x.dtype)[None, None]
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_NHWC) + bias.astype(x.dtype)


def gdn(x: jax.Array, gamma: jax.Array, beta: jax.Array, residual: jax.Array, inverse: bool) -> jax.Array:
    """`x / sqrt(beta + gamma @ x**2) + residual`, or times the root if `inverse`: [B, H, W, C], shape kept.

    `gamma` [out, in].
    """
    if current().by_kernel(x):
        return map_gradients.gdn(x, gamma.T, beta, residual, inverse)
    norm = jnp.matmul(x**2, gamma.T.astype(x.dtype), preferred_element_type=jnp.float32) + beta
    return x * (jnp.sqrt(norm) if inverse else jax.lax.rsqrt(norm)).astype(x.dtype) + residual


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x * Phi(x) with the error function; JAX's own takes the slower erfc."""
    return _GELU[current().by_kernel(x)](x)


def relu(x: jax.Array) -> jax.Array:
    """`max(x, 0)`."""
    return _RELU[current().by_kernel(x)](x)


def relu_of_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    """`max(x + y, 0)` of maps of one shape."""
    return _RELU_OF_SUM[current().by_kernel(x)](x, y)


def tanh(x: jax.Array) -> jax.Array:
    """The hyperbolic tangent."""
    return _TANH[current().by_kernel(x)](x)


def exp(x: jax.Array) -> jax.Array:
    """e**x, of x from -87 to 88 on CPUs."""
    return _EXP[current().by_kernel(x)](x)


def log(x: jax.Array) -> jax.Array:
    """The natural logarithm of x > 0."""
    return _LOG[current().by_kernel(x)](x)


def multiply_add(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`x * y + z` of maps of one shape; compilers differ in whether they round the product."""
    return _MULTIPLY_ADD[current().by_kernel(x)](x, y, z)


def gate(x: jax.Array, logits: jax.Array, residual: jax.Array) -> jax.Array:
    """`x * sigmoid(logits) + residual`, maps of one shape."""
    return _GATE[current().by_kernel(residual)](x, logits, residual)


def _both_ways(plain: Callable[..., jax.Array], kernel: Callable[..., jax.Array]) -> tuple[Callable, Callable]:
    """(`plain`, the kernel that computes the same with a gradient of its maps)."""
    return plain, map_gradients.pointwise(kernel, plain)


_GELU = _both_ways(lambda x: x * (0.5 * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))), kernels.gelu)
_RELU = _both_ways(jax.nn.relu, kernels.relu)
_RELU_OF_SUM = _both_ways(lambda x, y: jax.nn.relu(x + y), kernels.relu_of_sum)
_TANH = _both_ways(jnp.tanh, kernels.tanh)
_EXP = _both_ways(jnp.exp, lambda x: kernels.exp(x, jnp.ones_like(x), jnp.zeros_like(x)))
_LOG = _both_ways(jnp.log, kernels.log)
_MULTIPLY_ADD = _both_ways(lambda x, y, z: x * y + z, kernels.multiply_add)
_GATE = _both_ways(lambda x, logits, residual: x * jax.nn.sigmoid(logits) + residual, kernels.gate)


def gain(x: jax.Array, log_gains: jax.Array, level: jax.Array, scale: float = 1.0) -> jax.Array:
    """A map [B, H, W, C] times `scale` and the gains of its `level`, float [B] in 0 .. levels - 1.

    `log_gains` [levels, C]; between two levels the logarithms are interpolated linearly.
    """
    lower = jnp.clip(jnp.floor(level), 0, len(log_gains) - 2)
    share = (level - lower)[:, None]
    lower = lower.astype(jnp.int32)
    low, high = lookup(log_gains, lower), lookup(log_gains, lower + 1)
    if current().by_kernel(x):
        factor = kernels.exp(jnp.broadcast_to(share, low.shape), high - low, low)
    else:
        factor = jnp.exp((1 - share) * low + share * high)
    if scale != 1:
        factor *= np.float32(scale)
    return x * factor[:, None, None].astype(x.dtype)


def lookup(table: jax.Array, index: jax.Array | np.ndarray) -> jax.Array:
    """Rows of `table` [N, C] at `index`, int [...]: [..., C].

    Accelerators multiply by a matrix of ones and zeros, which is as exact: the gradient of an index is a scatter, which
    they do one after the other.
    """
    if current().gathers:
        return table[index]
    ones = (jnp.asarray(index)[..., None] == jnp.arange(len(table))).astype(table.dtype)
    return jnp.matmul(ones, table, precision="highest")
