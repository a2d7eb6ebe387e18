"""Kernels for CPUs, as JAX functions: what the codec's programs spend their time on, in vectors of this machine.

XLA leaves half of a CPU's speed unused in them (docs/performance.md). They have no gradients and know one device, so
that they are used only where `use` says so. Numba and llvmlite, which make them, are imported by then.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

_state = threading.local()


@functools.cache
def available() -> bool:
    """Whether XLA takes the kernels: not where its interface for them has another major version."""
    from tcm_jax.kernels import handlers

    try:
        handlers.register()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@contextlib.contextmanager
def use(wanted: bool) -> Iterator[None]:
    """What is traced within, by this thread, goes through the kernels, if they are `available`."""
    before = in_use()
    _state.used = wanted and available()
    try:
        yield
    finally:
        _state.used = before


def in_use() -> bool:
    """Whether to go through the kernels."""
    return getattr(_state, "used", False)


def can_convolve(x: jax.Array, features: int) -> bool:
    """Whether `convolve` takes a map [B, H, W, C] to so many features."""
    if not in_use() or x.dtype != jnp.float32 or jax.config.jax_default_matmul_precision == "highest":
        return False
    from tcm_jax.kernels.emit import LANES

    return x.shape[-1] % LANES == 0 and features % LANES == 0


def convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array, slope: float, factor: int = 1) -> jax.Array:
    """3x3 convolution with zero padding 1, plus bias, then LeakyReLU: [B, H, W, C] to [B, f*H, f*W, features].

    `kernel` [3, 3, C, f*f*features], with the outputs ordered (row, column, feature).
    """
    from tcm_jax.kernels import winograd

    batch, height, width, channels = x.shape
    bias = _filled(bias)
    y = (batch, factor * height, factor * width, kernel.shape[3] // factor**2)
    transformed = (winograd.POINTS, channels, bias.size)
    results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in (y, transformed)]
    slope = jnp.full(1, slope, jnp.float32)
    return jax.ffi.ffi_call("tcm_jax_winograd", results)(x, kernel, bias, slope, factor=np.int64(factor))[0]


def can_attend(x: jax.Array, window: int) -> bool:
    """Whether `swin_block` takes a map [B, H, W, C]."""
    if not in_use() or x.dtype != jnp.float32:
        return False
    from tcm_jax.kernels.emit import COLUMNS

    return window**2 % COLUMNS == 0


def swin_block(x: jax.Array, biases: jax.Array, layers: list[jax.Array], window: int, head_dim: int, shifted: bool):
    """A Swin block on a map [B, H, W, C].

    `biases` [1 or 4, heads, queries, keys] is added to the scores of a window where nothing is masked, or the last
    column, the last row, both. `layers` are scale and bias of the first layer norm, kernel and bias of the embedding
    and of the linear layer, the second norm's, and those of both layers of the MLP.
    """
    layers = [_packed(layer) if layer.ndim == 2 else _filled(layer) for layer in layers]
    call = jax.ffi.ffi_call("tcm_jax_swin", jax.ShapeDtypeStruct(x.shape, x.dtype))
    sizes = {"window": np.int64(window), "head_dim": np.int64(head_dim), "shifted": np.int64(shifted)}
    return call(x, biases.swapaxes(2, 3), *layers, **sizes)


def _packed(kernel: jax.Array) -> jax.Array:
    """[..., inner, features] to panels of columns that are next to each other: [..., panels, inner, COLUMNS]."""
    from tcm_jax.kernels.emit import COLUMNS

    kernel = _filled(kernel)
    return kernel.reshape(*kernel.shape[:-1], -1, COLUMNS).swapaxes(-2, -3)


def _filled(x: jax.Array) -> jax.Array:
    """With zeros after the last axis up to a whole panel."""
    from tcm_jax.kernels.emit import COLUMNS

    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % COLUMNS)])
