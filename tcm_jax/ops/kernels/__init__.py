"""Kernels for CPUs, as JAX functions: what the codec's programs spend their time on, in vectors of this machine.

XLA leaves half of a CPU's speed unused in them (docs/performance.md). They have no gradients, and a call knows one
device, so that they are used only in a `Target` for them. Numba and llvmlite, which make them, are imported by then.
"""

import functools
import math
import threading

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.ops.maps import pixel_shuffle

_registering = threading.Lock()  # XLA takes a name once


@functools.cache
def available() -> bool:
    """Whether XLA takes the kernels: not where its interface for them has another major version."""
    from tcm_jax.ops.kernels import handlers

    try:
        with _registering:
            handlers.register()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array, slope: float, factor: int = 1) -> jax.Array:
    """3x3 convolution with zero padding 1, plus bias, then LeakyReLU: [B, H, W, C] to [B, f*H, f*W, features].

    `kernel` [3, 3, C, f*f*features], with the outputs ordered (row, column, feature). With JAX's precision "highest"
    it is as exact as sums are.
    """
    from tcm_jax.ops.kernels.emit import LANES

    missing = max(0, LANES - x.shape[-1])
    if missing:
        x, kernel = jnp.pad(x, [(0, 0)] * 3 + [(0, missing)]), jnp.pad(kernel, [(0, 0)] * 2 + [(0, missing), (0, 0)])
    if factor > 1 and kernel.shape[3] // factor**2 % LANES:  # the kernel shuffles whole vectors
        return pixel_shuffle(convolve(x, kernel, bias, slope), factor)
    out_columns = 2 if jax.config.jax_default_matmul_precision == "highest" else 4
    batch, height, width, channels = x.shape
    features, bias = kernel.shape[3] // factor**2, _filled(bias)
    kernel = jnp.pad(kernel, [(0, 0)] * 3 + [(0, -kernel.shape[3] % LANES)])  # read by whole vectors
    y = (batch, factor * height, factor * width, features)
    transformed = (4 * (out_columns + 2), channels, bias.size)
    results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in (y, transformed)]
    slope, sizes = jnp.full(1, slope, jnp.float32), {"factor": np.int64(factor), "out_columns": np.int64(out_columns)}
    return jax.ffi.ffi_call("tcm_jax_winograd", results)(x, kernel, bias, slope, **sizes)[0]


def convolve_strided(x: jax.Array, kernel: jax.Array, bias: jax.Array, slope: float) -> jax.Array:
    """As `convolve`, with stride 2: to [B, ceil(H/2), ceil(W/2), features]."""
    batch, height, width, channels = x.shape
    y = jax.ShapeDtypeStruct((batch, -(-height // 2), -(-width // 2), kernel.shape[3]), x.dtype)
    kernel = _packed(kernel.reshape(9 * channels, -1))
    return jax.ffi.ffi_call("tcm_jax_strided", y)(x, kernel, _filled(bias), jnp.full(1, slope, jnp.float32))


def product(
    xs: list[jax.Array], kernel: jax.Array, bias: jax.Array, residual: jax.Array | None = None, outputs: int = 1
) -> list[jax.Array]:
    """1x1 convolution of one map [..., C] or two of as many channels side by side, to [..., features] or two halves.

    `kernel` [all C, all features]; `residual` is added to the result.
    """
    features, shape = kernel.shape[1], xs[0].shape[:-1]
    *xs, nothing = *(x.reshape(-1, x.shape[-1]) for x in xs), jnp.zeros((math.prod(shape), 0), xs[0].dtype)
    second = xs[1] if len(xs) > 1 else nothing
    residual = nothing if residual is None else residual.reshape(-1, features)
    widths = (features // outputs, features - features // outputs)
    results = [jax.ShapeDtypeStruct((len(nothing), width), nothing.dtype) for width in widths]
    call = jax.ffi.ffi_call("tcm_jax_product", results)
    return [y.reshape(*shape, -1) for y in call(xs[0], second, _packed(kernel), _filled(bias), residual)[:outputs]]


def gdn(x: jax.Array, gamma: jax.Array, beta: jax.Array, residual: jax.Array, inverse: bool) -> jax.Array:
    """`x / sqrt(beta + x**2 @ gamma) + residual`, or times the root if `inverse`: [..., C], shape kept."""
    rows = (-1, x.shape[-1])
    call = jax.ffi.ffi_call("tcm_jax_gdn", jax.ShapeDtypeStruct((x[..., 0].size, x.shape[-1]), x.dtype))
    y = call(x.reshape(rows), _packed(gamma), _filled(beta), residual.reshape(rows), inverse=np.int64(inverse))
    return y.reshape(x.shape)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU."""
    return _pointwise("GELU", x, x, x)


def tanh(x: jax.Array) -> jax.Array:
    """The hyperbolic tangent, within 1e-7."""
    return _pointwise("TANH", x, x, x)


def gate(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`x * sigmoid(y) + z`."""
    return _pointwise("GATE", x, y, z)


def exp(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`exp(x * y + z)`."""
    return _pointwise("EXP", x, y, z)


def _pointwise(function: str, *xs: jax.Array) -> jax.Array:
    from tcm_jax.ops.kernels import functions

    shape = xs[0].shape
    call = jax.ffi.ffi_call("tcm_jax_pointwise", jax.ShapeDtypeStruct((math.prod(shape),), xs[0].dtype))
    return call(*(x.reshape(-1) for x in xs), function=np.int64(getattr(functions, function))).reshape(shape)


def swin_block(x: jax.Array, biases: jax.Array, layers: list[jax.Array], window: int, head_dim: int, shifted: bool):
    """A Swin block on a map [B, H, W, C].

    `biases` [1 or 4, heads, queries, keys] is added to the scores of a window where nothing is masked, or the last
    column, the last row, both. `layers` are scale and bias of the first layer norm, kernel and bias of the embedding
    and of the linear layer, the second norm's, and those of both layers of the MLP.
    """
    biases = _filled(_filled(biases).swapaxes(2, 3))
    layers = [_packed(layer) if layer.ndim == 2 else _filled(layer) for layer in layers]
    call = jax.ffi.ffi_call("tcm_jax_swin", jax.ShapeDtypeStruct(x.shape, x.dtype))
    sizes = {"window": np.int64(window), "head_dim": np.int64(head_dim), "shifted": np.int64(shifted)}
    return call(x, biases, *layers, **sizes)


def _packed(kernel: jax.Array) -> jax.Array:
    """[..., inner, features] to panels of columns that are next to each other: [..., panels, inner, COLUMNS]."""
    from tcm_jax.ops.kernels.emit import COLUMNS

    kernel = _filled(kernel)
    return kernel.reshape(*kernel.shape[:-1], -1, COLUMNS).swapaxes(-2, -3)


def _filled(x: jax.Array) -> jax.Array:
    """With zeros after the last axis up to a whole panel."""
    from tcm_jax.ops.kernels.emit import COLUMNS

    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % COLUMNS)])
