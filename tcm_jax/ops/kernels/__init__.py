"""Kernels for CPUs, as JAX functions: what the codec's programs spend their time on, in vectors of this machine.

XLA leaves half of a CPU's speed unused in them (docs/performance.md). JAX knows no gradients of theirs: ours are
kernels too, which map_gradients.py gives to searches and cpu_gradients.py to training. A call knows one device. So they
are used only in a `Target` for them. llvmlite, which loads them, is imported by then; Numba, which makes them, where a
call is traced.
"""

import functools
import math
import threading
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.ops.maps import pixel_shuffle

_registering = threading.Lock()  # XLA takes a name once


@functools.cache
def available() -> bool:
    """Whether the kernels can be used; the first call makes them.

    They cannot, without a word, on an x86 processor that does not fuse products with sums: each would be a call of a C
    function. Where Numba, LLVM or XLA fails to make them, or refuses them, one RuntimeWarning says why.
    """
    return _made("register")


@functools.cache
def gradients_available() -> bool:
    """As `available`, with gradients of maps, for searches (map_gradients.py)."""
    return available() and _made("add_search")


@functools.cache
def training_available() -> bool:
    """As `available`, with all gradients of convolutions and Swin blocks, for training (cpu_gradients.py)."""
    return available() and _made("add_training")


def _made(what: str) -> bool:
    try:
        from tcm_jax.ops.kernels import handlers
        from tcm_jax.ops.kernels.machine import FUSES

        if not FUSES:
            return False
        with _registering:
            getattr(handlers, what)()
    except Exception as error:  # Numba, LLVM and XLA each have their own
        reason = (str(error).strip().splitlines() or [""])[0]
        warnings.warn(
            f"the kernels for CPUs cannot be made, so XLA's slower operations serve: {type(error).__name__}: {reason}",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


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
    features, bias = kernel.shape[3] // factor**2, _filled(bias)
    kernel = _filled(kernel, LANES)
    y = (batch, factor * height, factor * width, features)
    transformed = (4 * (out_columns + 2), channels, bias.size)
    results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in (y, transformed)]
    division = {
        "parts": winograd.parts(batch, height, width, channels, out_columns),
        "scratch": winograd.scratch_bytes(channels, out_columns),
        "prepare": winograd.kernel_parts(channels),
    }
    arguments = (x, kernel, bias, jnp.full(1, slope, jnp.float32))
    return _call("winograd", results, arguments, **division, factor=factor, out_columns=out_columns)[0]


def convolve_strided(x: jax.Array, kernel: jax.Array, bias: jax.Array, slope: float) -> jax.Array:
    """As `convolve`, with stride 2: to [B, ceil(H/2), ceil(W/2), features]."""
    from tcm_jax.ops.kernels import strided

    batch, height, width, channels = x.shape
    features = kernel.shape[3]
    y = jax.ShapeDtypeStruct((batch, -(-height // 2), -(-width // 2), features), x.dtype)
    arguments = (x, _packed(kernel.reshape(9 * channels, -1)), _filled(bias), jnp.full(1, slope, jnp.float32))
    parts, scratch = strided.parts(batch, height, width), strided.scratch_bytes(channels, features)
    return _call("strided", y, arguments, parts, scratch)


def convolution_kernel_gradient(x: jax.Array, gradient: jax.Array, stride: int) -> jax.Array:
    """Gradient [3, 3, C, features] of a convolution's kernel, from the map and its result's gradient.

    They are [B, H, W, C] and [B, ceil(H/stride), ceil(W/stride), features].
    """
    from tcm_jax.ops.kernels import kernel_gradient

    (*size, features), channels = gradient.shape, x.shape[3]
    groups, of_part = kernel_gradient.division(*size, channels, features, stride)
    parts = -(-channels // of_part)
    shapes = (
        (9, channels, features),
        (groups, parts, 3, kernel_gradient.points(stride), of_part, kernel_gradient.filled(features)),
    )
    results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
    sizes = {"stride": stride, "groups": groups, "channels": of_part}
    scratch = kernel_gradient.scratch_bytes(*size[1:], of_part, stride)
    rows = kernel_gradient.parts(channels)
    total, _ = _call("kernel_gradient", results, (x, gradient), rows, scratch, groups * parts, **sizes)
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
    results = [jax.ShapeDtypeStruct((len(nothing), width), nothing.dtype) for width in widths]
    arguments = (xs[0], second, _packed(kernel), _filled(bias), residual)
    ys = _call("product", results, arguments, dense.parts(len(nothing)), dense.scratch_bytes(inner, features))
    return [y.reshape(*shape, -1) for y in ys[:outputs]]


def gdn(x: jax.Array, gamma: jax.Array, beta: jax.Array, residual: jax.Array, inverse: bool) -> jax.Array:
    """`x / sqrt(beta + x**2 @ gamma) + residual`, or times the root if `inverse`: [..., C], shape kept."""
    from tcm_jax.ops.kernels import dense

    channels = x.shape[-1]
    positions = math.prod(x.shape[:-1])
    y = jax.ShapeDtypeStruct((positions, channels), x.dtype)
    arguments = (x.reshape(y.shape), _packed(gamma), _filled(beta), residual.reshape(y.shape))
    scratch = dense.scratch_bytes(channels, channels)
    return _call("gdn", y, arguments, dense.parts(positions), scratch, inverse=inverse).reshape(x.shape)


def blur(x: jax.Array, taps: jax.Array) -> jax.Array:
    """Sums of n x n neighbours weighted by `taps` [n] down and across: [B, H, W, C] to [B, H - n + 1, W - n + 1, C].

    A row has at least 16 values.
    """
    from tcm_jax.ops.kernels import filters

    batch, height, width, channels = x.shape
    rows, columns = height - len(taps) + 1, width - len(taps) + 1
    y = jax.ShapeDtypeStruct((batch, rows, columns, channels), x.dtype)
    return _call("blur", y, (x, taps), filters.parts(batch, rows), filters.scratch_bytes(width, channels))


def gelu(x: jax.Array) -> jax.Array:
    """`x * Phi(x)`, the exact GELU, of any shape."""
    return _pointwise("GELU", x, x, x)


def relu(x: jax.Array) -> jax.Array:
    """`max(x, 0)`, of any shape."""
    return _pointwise("RELU", x, x, x)


def relu_of_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    """`max(x + y, 0)` of two arrays of one shape."""
    return _pointwise("SUM_RELU", x, y, x)


def tanh(x: jax.Array) -> jax.Array:
    """The hyperbolic tangent of x, of any shape, within 1e-7."""
    return _pointwise("TANH", x, x, x)


def gate(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`x * sigmoid(y) + z` of three arrays of one shape."""
    return _pointwise("GATE", x, y, z)


def exp(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`exp(x * y + z)` of three arrays of one shape."""
    return _pointwise("EXP", x, y, z)


def log(x: jax.Array) -> jax.Array:
    """The natural logarithm of positive x, of any shape."""
    return _pointwise("LOG", x, x, x)


def multiply_add(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`x * y + z` of three arrays of one shape, rounded once."""
    return _pointwise("FUSED", x, y, z)


def _pointwise(function: str, *xs: jax.Array) -> jax.Array:
    from tcm_jax.ops.kernels import functions

    shape, size = xs[0].shape, xs[0].size
    arguments, y = [x.reshape(-1) for x in xs], jax.ShapeDtypeStruct((size,), xs[0].dtype)
    parts, scratch = functions.parts(size), functions.scratch_bytes()
    number = getattr(functions, function)
    return _call("pointwise", y, arguments, parts, scratch, function=number).reshape(shape)


def swin_block(x: jax.Array, biases: jax.Array, layers: list[jax.Array], window: int, head_dim: int, shifted: bool):
    """A Swin block on a map [B, H, W, C].

    `biases` [1 or 4, heads, queries, keys] is added to the scores of a window where nothing is masked, or the last
    column, the last row, both. `layers` are scale and bias of the first layer norm, kernel and bias of the embedding
    and of the linear layer, the second norm's, and those of both layers of the MLP.
    """
    from tcm_jax.ops.kernels import swin

    biases, layers = _arranged(biases, layers)
    parts, scratch = swin.parts(*x.shape[:3], window), swin.scratch_bytes(x.shape[3], window)
    sizes = {"window": window, "head_dim": head_dim, "shifted": shifted}
    return _call("swin", jax.ShapeDtypeStruct(x.shape, x.dtype), (x, biases, *layers), parts, scratch, **sizes)


def swin_block_gradient(x: jax.Array, gradient: jax.Array, *arguments) -> jax.Array:
    """Gradient of the map `x` [B, H, W, C] of `swin_block`, whose other `arguments` are as there, from its result's."""
    return _swin_gradients(False, x, gradient, *arguments)[0]


def swin_block_gradients(
    x: jax.Array, gradient: jax.Array, biases: jax.Array, layers: list[jax.Array], *sizes
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """As `swin_block_gradient`, of x, of what is common to all windows' biases [heads, queries, keys], of `layers`."""
    from tcm_jax.ops.kernels import swin_sums

    dx, sums, _ = _swin_gradients(True, x, gradient, biases, layers, *sizes)
    channels, (heads, count) = x.shape[3], biases.shape[1:3]
    ends = np.cumsum(swin_sums.sizes(channels, swin_sums.filled(count), heads))[:-1]
    norm1, q, k, v, qkv_bias, positions, *rest = jnp.split(sums, ends)
    linear, linear_bias, norm2, widen, widen_bias, narrow, narrow_bias = rest

    def norm(part):
        return list(part.reshape(2, -1)[:, :channels])

    def kernel(part, inputs, features):
        return part.reshape(-1, swin_sums.filled(features))[:inputs, :features]

    qkv = jnp.concatenate([kernel(part, channels, channels) for part in (q, k, v)]).T
    of_layers = [*norm(norm1), qkv, qkv_bias[: 3 * channels], kernel(linear, channels, channels)]
    of_layers += [linear_bias[:channels], *norm(norm2), kernel(widen, channels, 4 * channels)]
    of_layers += [widen_bias[: 4 * channels], kernel(narrow, 4 * channels, channels), narrow_bias[:channels]]
    positions = positions.reshape(heads, swin_sums.filled(count), -1)[:, :count, :count]
    return dx, positions.swapaxes(1, 2), of_layers


def _swin_gradients(parameters, x, gradient, biases, layers, window, head_dim, shifted):
    """[gradient of x] and, if those of parameters are wanted, `swin_sums.Sums` of all windows [size] and of parts."""
    from tcm_jax.ops.kernels import swin_gradient, swin_sums

    turned = [_packed(layer.T) for layer in layers if layer.ndim == 2]
    biases, layers = _arranged(biases, layers)
    batch, height, width, channels = x.shape
    heads, windows = channels // head_dim, batch * (height // window) * (width // window)
    of_part = swin_gradient.windows_of_part(windows, parameters)
    parts, scratch = -(-windows // of_part), swin_gradient.scratch_bytes(channels, window, heads)
    size = sum(swin_sums.sizes(channels, biases.shape[2], heads))
    shapes = (x.shape, (size,), (parts, size)) if parameters else (x.shape,)
    results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
    arguments = (x, biases, *layers[:-2], *turned, gradient)
    sizes = {"window": window, "head_dim": head_dim, "shifted": shifted, "windows": of_part, "parameters": parameters}
    if not parameters:
        return _call("swin_gradient", results, arguments, parts, scratch, **sizes)
    return _call("swin_gradients", results, arguments, swin_sums.parts(size), scratch, parts, **sizes)


def _arranged(biases: jax.Array, layers: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    """Both as the kernels of a Swin block take them: filled up, keys before queries, in panels."""
    biases = _filled(_filled(biases).swapaxes(2, 3))
    return biases, [_packed(layer) if layer.ndim == 2 else _filled(layer) for layer in layers]


def _call(name: str, results: Any, arguments: Iterable[jax.Array], parts: int, scratch: int, prepare=0, **attributes):
    """Calls a kernel of `handlers.KERNELS`, whose work has so many parts of so many bytes of scratch memory.

    `prepare`: the parts of the kernel before it, which is done first; 0: there is none to do.
    """
    from tcm_jax.ops.kernels import handlers

    if not handlers.made(name):
        raise RuntimeError(f"the kernel {name} was not made; ask `search_target` or `training_target` for the target")
    common = {"_kernel": handlers.NUMBERS[name], "_parts": parts, "_prepare": prepare, "_scratch": scratch}
    integers = {key: np.int64(value) for key, value in (common | attributes).items()}
    return jax.ffi.ffi_call(f"tcm_jax_{name}", results)(*arguments, **integers)


def _packed(kernel: jax.Array) -> jax.Array:
    """[..., inner, features] as panels of columns that are next to each other: [..., panels, inner, COLUMNS]."""
    from tcm_jax.ops.kernels.machine import COLUMNS

    *sets, inner, features = kernel.shape
    panels = _columns(kernel.reshape(-1, inner, features), -(-features // COLUMNS), COLUMNS)
    return panels.reshape(*sets, -1, inner, COLUMNS)


def _filled(x: jax.Array, multiple: int | None = None) -> jax.Array:
    """`x` [..., n] with zeros appended to the last axis up to a multiple of COLUMNS, or another."""
    from tcm_jax.ops.kernels.machine import COLUMNS

    width = x.shape[-1] + -x.shape[-1] % (multiple or COLUMNS)
    return _columns(x.reshape(1, -1, x.shape[-1]), 1, width).reshape(*x.shape[:-1], width)


def _columns(x: jax.Array, panels: int, width: int) -> jax.Array:
    """`x` [sets, rows, n] in `panels` panels of `width` columns, with zeros beyond it: [sets, panels, rows, width]."""
    sets, rows, n = x.shape
    if panels == 1 and width == n:
        return x[:, None]
    y = jax.ShapeDtypeStruct((sets, panels, rows, width), x.dtype)
    return _call("pack", y, (x,), sets * panels, 0)
