"""Gradients made for CPUs: the same functions as XLA's, differentiated otherwise.

XLA's own gradients of products and convolutions transpose the maps in memory first, and those of 3x3 kernels over large
maps take several times as long as the matrix products they can be written as (`python benchmarks/kernel_gradient.py`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from tcm_jax.ops import kernels
from tcm_jax.ops.compile_target import Target

LARGE_MAP = 2048  # positions of a map from which XLA's gradient of its kernel is slow
LARGE_KERNEL = 1 << 14  # channels in times out from which it is slow for any map
LEAST_MAP, LEAST_CHANNELS = 256, 16  # positions, and with stride 1 channels, from which our convolution is faster
LEAST_WINDOWS = 32  # of a device's pictures, from which our Swin block is
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

    In training's target our kernels convolve, and take the gradient of `x`, where they are faster, and the gradient of
    `kernel`. Elsewhere that is taken by matrix products over a large map, a few rows at a time, and for a large kernel
    or stride 2, one for each of its nine elements.
    """
    return _forward(x, kernel, stride, target)


def _forward(x, kernel, stride, target):
    large = x[0, :, :, 0].size >= LEAST_MAP and (stride == 2 or x.shape[-1] >= LEAST_CHANNELS)
    by_kernel = by_training_kernel(x, target) and large
    return _convolve_shards(x, kernel, stride, target.mesh) if by_kernel else convolve_by_xla(x, kernel, stride)


def by_training_kernel(x: jax.Array, target: Target) -> bool:
    """Whether a map [B, H, W, C] goes through training's kernels: of float32, equal parts of it on each device."""
    divides = target.mesh is None or len(x) % target.mesh.size == 0
    return target.kernels == "training" and x.dtype == jnp.float32 and divides


def convolve_by_xla(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """As `convolve`, with XLA's own gradients."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers)


def _convolve_shards(x, kernel, stride, mesh):
    """Convolves by our kernels."""

    def convolve_part(x: jax.Array, kernel: jax.Array) -> jax.Array:
        convolve = kernels.convolve if stride == 1 else kernels.convolve_strided
        return convolve(x, kernel, jnp.zeros(kernel.shape[3], x.dtype), 1.0)

    return in_shards(convolve_part, mesh, (True, False), True)(x, kernel)


def _kernel_gradient(x, gradient, stride, mesh):
    """The kernel's gradient by our kernel."""

    def gradient_of_part(x: jax.Array, gradient: jax.Array) -> jax.Array:
        part = kernels.convolution_kernel_gradient(x, gradient, stride)
        return jax.lax.psum(part, mesh.axis_names) if _several(mesh) else part

    return in_shards(gradient_of_part, mesh, (True, True), False)(x, gradient)


def in_shards(function, mesh, inputs, outputs):
    """`function` for each device of the mesh and its part of the batch, since our kernels know one device.

    inputs, outputs: which of them, or trees of them, are batches; others are the same everywhere.
    """
    if not _several(mesh):
        return function
    batch, everywhere = PartitionSpec(mesh.axis_names), PartitionSpec()
    inputs, outputs = jax.tree.map(lambda is_batch: batch if is_batch else everywhere, (inputs, outputs))
    return _shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs)


def _several(mesh):
    return mesh is not None and mesh.size > 1


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
        (dx,) = jax.vjp(lambda x: convolve_by_xla(x, kernel, stride), x)[1](gradient)
    if by_training_kernel(x, target):
        return dx, _kernel_gradient(x, gradient, stride, target.mesh)
    large_map = gradient[0, :, :, 0].size >= LARGE_MAP
    if large_map or kernel[0, 0].size >= LARGE_KERNEL:
        in_blocks = large_map and stride == 1
        return dx, _in_blocks(x, gradient) if in_blocks else _by_elements(x, gradient, stride)
    return dx, *jax.vjp(lambda kernel: convolve_by_xla(x, kernel, stride), kernel)[1](gradient)


convolve.defvjp(lambda x, kernel, stride, target: (_forward(x, kernel, stride, target), (x, kernel)), _backward)


def swin_by_kernel(x: jax.Array, window: int, target: Target) -> bool:
    """Whether a Swin block of a map goes through training's kernels."""
    if not by_training_kernel(x, target):
        return False
    devices = target.mesh.size if target.mesh else 1
    return x[..., 0].size >= LEAST_WINDOWS * window**2 * devices


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
def swin_block(
    x: jax.Array,
    bias: jax.Array,
    masks: np.ndarray,
    layers: list[jax.Array],
    window: int,
    head_dim: int,
    shifted: bool,
    target: Target,
) -> jax.Array:
    """`kernels.swin_block` with the biases `bias` [heads, n, n] + `masks` [1 or 4, 1, n, n], in training's target."""

    def block_of_part(x: jax.Array, bias: jax.Array, masks: jax.Array, layers: list[jax.Array]) -> jax.Array:
        return kernels.swin_block(x, bias + masks, layers, window, head_dim, shifted)

    return in_shards(block_of_part, target.mesh, (True, False, False, False), True)(x, bias, masks, layers)


def _swin_forward(x, bias, masks, layers, *options):
    return swin_block(x, bias, masks, layers, *options), (x, bias, masks, layers)


def _swin_backward(window, head_dim, shifted, target, kept, gradient):
    def gradients_of_part(gradient, x, bias, masks, layers):
        dx, *others = kernels.swin_block_gradients(x, gradient, bias + masks, layers, window, head_dim, shifted)
        return dx, jax.lax.psum(others, target.mesh.axis_names) if _several(target.mesh) else others

    inputs = (True, True, False, False, False)
    dx, (of_bias, of_layers) = in_shards(gradients_of_part, target.mesh, inputs, (True, False))(gradient, *kept)
    return dx, of_bias, None, of_layers


swin_block.defvjp(_swin_forward, _swin_backward)


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
