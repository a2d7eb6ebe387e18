"""Gradients made for CPUs: the same functions as XLA's, differentiated otherwise.

XLA's own gradients of products and convolutions transpose the maps in memory first, and those of 3x3 kernels over large
maps take several times as long as the matrix products they can be written as (`python benchmarks/kernel_gradient.py`).
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tcm_jax.ops import kernels
from tcm_jax.ops.compile_target import Target

LARGE_MAP = 2048  # positions of a map from which XLA's gradient of its kernel is slow
LARGE_KERNEL = 1 << 14  # channels in times out from which it is slow for any map
LEAST_MAP, LEAST_CHANNELS = 256, 16  # positions and channels from which the CPU kernels' convolution is faster
BLOCK = 1 << 16  # values of a map whose part of a kernel's gradient is taken at once, small enough for the cache


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel`: [..., C] and [C, features] to [..., features]."""
    return x @ kernel


def _product_backward(residuals, gradient):
    x, kernel = residuals
    return gradient @ kernel.T, _over_positions(x, gradient).astype(kernel.dtype)


product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, stride: int, target: Target) -> jax.Array:
    """Map [B, H, W, C] and kernel [3, 3, C, features] to [B, ceil(H/stride), ceil(W/stride), features]; zero padding 1.

    The kernel's gradient over a large map is taken by matrix products, a few rows at a time, and that of a large kernel
    or of stride 2 by one for each of its nine elements. In training's target our kernel convolves, and takes the
    gradient of `x`, where it is faster.
    """
    return _forward(x, kernel, stride, target)


def _forward(x, kernel, stride, target):
    large = x[0, :, :, 0].size >= LEAST_MAP and x.shape[-1] >= LEAST_CHANNELS
    wanted = target.kernels == "training" and stride == 1 and x.dtype == jnp.float32
    divides = target.mesh is None or len(x) % target.mesh.size == 0
    return _convolve_shards(x, kernel, target.mesh) if wanted and large and divides else _convolve(x, kernel, stride)


def _convolve(x, kernel, stride):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers)


def _convolve_shards(x, kernel, mesh):
    """Convolves by our kernel, which knows one device: each device of the mesh has its part of the batch."""

    def convolve_part(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return kernels.convolve(x, kernel, jnp.zeros(kernel.shape[3], x.dtype), 1.0)

    if mesh is None or mesh.size == 1:
        return convolve_part(x, kernel)
    batch = PartitionSpec(mesh.axis_names)
    return _shard_map(convolve_part, mesh=mesh, in_specs=(batch, PartitionSpec()), out_specs=batch)(x, kernel)


def _shard_map(function, **sizes):
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, check_vma=False, **sizes)
    from jax.experimental.shard_map import shard_map

    return shard_map(function, check_rep=False, **sizes)


def _backward(stride, target, residuals, gradient):
    x, kernel = residuals
    if target.kernels == "training" and stride == 1:
        dx = _forward(gradient, kernel[::-1, ::-1].swapaxes(2, 3), stride, target)
    else:
        (dx,) = jax.vjp(lambda x: _convolve(x, kernel, stride), x)[1](gradient)
    large_map = gradient[0, :, :, 0].size >= LARGE_MAP
    if large_map or kernel[0, 0].size >= LARGE_KERNEL:
        in_blocks = large_map and stride == 1
        return dx, _in_blocks(x, gradient) if in_blocks else _by_elements(x, gradient, stride)
    return dx, *jax.vjp(lambda kernel: _convolve(x, kernel, stride), kernel)[1](gradient)


convolve.defvjp(lambda x, kernel, stride, target: (_forward(x, kernel, stride, target), (x, kernel)), _backward)


def _by_elements(x, gradient, stride):
    """The kernel's gradient as nine products [C, positions] @ [positions, features].

    In a loop: nine slices that start elsewhere would be nine kernels to compile.
    """
    rows, columns, features = gradient.shape[1:]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    part = (len(x), stride * (rows - 1) + 1, stride * (columns - 1) + 1, x.shape[-1])

    def product_of_tap(i):
        tap = jax.lax.dynamic_slice(x, (0, i // 3, i % 3, 0), part)[:, ::stride, ::stride]
        return _over_positions(tap, gradient)

    total = jax.lax.map(product_of_tap, jnp.arange(9))
    return total.reshape(3, 3, x.shape[-1], features).astype(x.dtype)


def _in_blocks(x, gradient):
    """Sum over blocks of rows of [3 * C, positions] @ [positions, 3 * features], for stride 1.

    Three columns of the map beside three rows of the gradient make all nine elements, and copy six maps instead of 18.
    """
    batch, height, width, features = gradient.shape
    channels, padded_rows = x.shape[-1], batch * (height + 2)
    rows = min(padded_rows, max(1, BLOCK // (width * channels)))
    blocks = -(-padded_rows // rows)
    rest = blocks * rows - padded_rows
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(padded_rows, width + 2, channels)
    x = jnp.pad(x, ((0, rest), (0, 0), (0, 0)))
    # Row r of x meets the gradient's rows r, r - 1 and r - 2: zeros from one picture to the next.
    gradient = jnp.pad(gradient, ((0, 0), (0, 2), (0, 0), (0, 0))).reshape(padded_rows, width, features)
    gradient = jnp.pad(gradient, ((2, rest), (0, 0), (0, 0)))

    def add(i, total):
        part = jax.lax.dynamic_slice(x, (i * rows, 0, 0), (rows, width + 2, channels))
        g = jax.lax.dynamic_slice(gradient, (i * rows, 0, 0), (rows + 2, width, features))
        columns = jnp.concatenate([part[:, j : j + width] for j in range(3)], -1)
        return total + _over_positions(columns, jnp.concatenate([g[2 - j : 2 - j + rows] for j in range(3)], -1))

    total = jax.lax.fori_loop(0, blocks, add, jnp.zeros((3 * channels, 3 * features), jnp.float32))
    return total.reshape(3, channels, 3, features).transpose(2, 0, 1, 3).astype(x.dtype)


def _over_positions(left, right):
    """Sum over all positions of the products of both maps' channels: [..., C] and [..., D] to float32 [C, D]."""
    left, right = left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
    return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """`x` [A, B, ...] + `bias` [...].

    The bias's gradient is a product with ones: XLA's own sum over the leading axes takes 20 times as long.
    """
    return x + bias


def _add_bias_backward(_, gradient):
    flat = gradient.reshape(-1, *gradient.shape[2:])
    return gradient, jnp.einsum("w,whij->hij", jnp.ones(len(flat), flat.dtype), flat)


add_bias.defvjp(lambda x, bias: (x + bias, None), _add_bias_backward)
