"""Convolutions, products, GDN and blur by kernels, with their gradients' kernels."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from tcm_jax.ops.kernels import calls
from tcm_jax.ops.maps import pixel_shuffle


def convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array, slope: float, factor: int = 1) -> jax.Array:
    """3x3 convolution with zero padding 1, plus bias, then LeakyReLU: [B, H, W, C] to [B, f*H, f*W, features].

    `kernel` [3, 3, C, f*f*features], with the outputs ordered (row, column, feature). With JAX's precision "highest"
    it is as exact as sums are.
    """
    from tcm_jax.ops.kernels import winograd
    from tcm_jax.ops.kernels.machine import LANES

    missing = max(0, LANES - x.shape[-1])
    if missing:
        x, kernel = jnp.pad(x, [(0, 0)] * 3 + [(0, missing)]), jnp.pad(kernel, [(0, 0)] * 2 + [(0, missing), (0, 0)])
    if factor > 1 and kernel.shape[3] // factor**2 % LANES:  # the kernel shuffles whole vectors
        return pixel_shuffle(convolve(x, kernel, bias, slope), factor)
    settings: Any = jax.config  # its types name no setting
    out_columns = 2 if settings.jax_default_matmul_precision == "highest" else 4
    batch, height, width, channels = x.shape
    features, bias = kernel.shape[3] // factor**2, calls.filled(bias)
    kernel = calls.filled(kernel, LANES)
    y = (batch, factor * height, factor * width, features)
    transformed = (4 * (out_columns + 2), channels, bias.size)
    results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in (y, transformed)]
    division = {
        "parts": winograd.parts(batch, height, width, channels, out_columns),
        "scratch": winograd.scratch_bytes(channels, out_columns),
        "prepare": winograd.kernel_parts(channels),
    }
    arguments = (x, kernel, bias, jnp.full(1, slope, jnp.float32))
    return calls.call("winograd", results, arguments, **division, factor=factor, out_columns=out_columns)[0]


def convolve_strided(x: jax.Array, kernel: jax.Array, bias: jax.Array, slope: float) -> jax.Array:
    """As `convolve`, with stride 2: to [B, ceil(H/2), ceil(W/2), features]."""
    from tcm_jax.ops.kernels import strided

    batch, height, width, channels = x.shape
    features = kernel.shape[3]
    y = jax.ShapeDtypeStruct((batch, -(-height // 2), -(-width // 2), features), x.dtype)
    arguments = (x, calls.packed(kernel.reshape(9 * channels, -1)), calls.filled(bias), jnp.full(1, slope, jnp.float32))
    parts, scratch = strided.parts(batch, height, width), strided.scratch_bytes(channels, features)
    return calls.call("strided", y, arguments, parts, scratch)


def convolution_kernel_gradient(x: jax.Array, gradient: jax.Array, stride: int) -> jax.Array:
    """Gradient [3, 3, C, features] of a convolution's kernel, from the map and its result's gradient.

    They are [B, H, W, C] and [B, ceil(H/stride), ceil(W/stride), features].
    """
    from tcm_jax.ops.kernels import kernel_gradient
    from tcm_jax.ops.kernels.emit import filled

    (*size, features), channels = gradient.shape, x.shape[3]
    groups, of_part = kernel_gradient.division(*size, channels, features, stride)
    parts = -(-channels // of_part)
    shapes = (
        (9, channels, features),
        (groups, parts, 3, kernel_gradient.points(stride), of_part, filled(features)),
    )
    results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
    sizes = {"stride": stride, "groups": groups, "channels": of_part}
    scratch = kernel_gradient.scratch_bytes(*size[1:], of_part, stride)
    rows = kernel_gradient.parts(channels)
    total, _ = calls.call("kernel_gradient", results, (x, gradient), rows, scratch, groups * parts, **sizes)
    return total.reshape(3, 3, channels, features)


def product(
    xs: list[jax.Array], kernel: jax.Array, bias: jax.Array, residual: jax.Array | None = None, outputs: int = 1
) -> list[jax.Array]:
    """1x1 convolution of one map [..., C] or two of as many channels side by side, to [..., features] or two halves.

    `kernel` [all C, all features]; `residual` is added to the result.
    """
    from tcm_jax.ops.kernels import dense

    inner, features = kernel.shape
    shape = xs[0].shape[:-1]
    *xs, nothing = *(x.reshape(-1, x.shape[-1]) for x in xs), jnp.zeros((math.prod(shape), 0), xs[0].dtype)
    second = xs[1] if len(xs) > 1 else nothing
    residual = nothing if residual is None else residual.reshape(-1, features)
    widths = (features // outputs, features - features // outputs)
    results = [jax.ShapeDtypeStruct((nothing.shape[0], width), nothing.dtype) for width in widths]
    arguments = (xs[0], second, calls.packed(kernel), calls.filled(bias), residual)
    ys = calls.call("product", results, arguments, dense.parts(nothing.shape[0]), dense.scratch_bytes(inner, features))
    return [y.reshape(*shape, -1) for y in ys[:outputs]]


def gdn(x: jax.Array, gamma: jax.Array, beta: jax.Array, residual: jax.Array, inverse: bool) -> jax.Array:
    """`x / sqrt(beta + x**2 @ gamma) + residual`, or times the root if `inverse`: [..., C], shape kept."""
    from tcm_jax.ops.kernels import dense

    channels = x.shape[-1]
    positions = math.prod(x.shape[:-1])
    y = jax.ShapeDtypeStruct((positions, channels), x.dtype)
    arguments = (x.reshape(y.shape), calls.packed(gamma), calls.filled(beta), residual.reshape(y.shape))
    scratch = dense.scratch_bytes(channels, channels)
    return calls.call("gdn", y, arguments, dense.parts(positions), scratch, inverse=inverse).reshape(x.shape)


def blur(x: jax.Array, taps: jax.Array) -> jax.Array:
    """Sums of n x n neighbours weighted by `taps` [n] down and across: [B, H, W, C] to [B, H - n + 1, W - n + 1, C].

    A row has at least 16 values.
    """
    from tcm_jax.ops.kernels import filters

    batch, height, width, channels = x.shape
    rows, columns = height - len(taps) + 1, width - len(taps) + 1
    y = jax.ShapeDtypeStruct((batch, rows, columns, channels), x.dtype)
    return calls.call("blur", y, (x, taps), filters.parts(batch, rows), filters.scratch_bytes(width, channels))
