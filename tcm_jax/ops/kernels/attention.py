"""The Swin block and its gradients by kernels."""

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.ops.kernels import calls


def swin_block(
    x: jax.Array, biases: jax.Array, layers: list[jax.Array], window: int, head_dim: int, shifted: bool
) -> jax.Array:
    """A Swin block on a map [B, H, W, C].

    `biases` [1 or 4, heads, queries, keys] is added to the scores of a window where nothing is masked, or the last
    column, the last row, both. `layers` are those of `shifted_windows.SwinWeights` without positions: scale and
    bias of norm1, kernel and bias of qkv [C, 3 C] and of projection [C, C], scale and bias of norm2, kernel and bias of
    widen [C, 4 C] and of narrow [4 C, C].
    """
    from tcm_jax.ops.kernels import swin

    biases, layers = _arranged(biases, layers)
    parts, scratch = swin.parts(*x.shape[:3], window), swin.scratch_bytes(x.shape[3], window)
    sizes = {"window": window, "head_dim": head_dim, "shifted": shifted}
    return calls.call("swin", jax.ShapeDtypeStruct(x.shape, x.dtype), (x, biases, *layers), parts, scratch, **sizes)


def swin_block_gradient(x: jax.Array, gradient: jax.Array, *arguments) -> jax.Array:
    """Gradient of the map `x` [B, H, W, C] of `swin_block`, whose other `arguments` are as there, from its result's."""
    return _swin_gradients(False, x, gradient, *arguments)[0]


def swin_block_gradients(
    x: jax.Array, gradient: jax.Array, biases: jax.Array, layers: list[jax.Array], *sizes
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Gradients of `swin_block`: of `x`, of what all windows' biases have in common, and of `layers`.

    The second is [heads, queries, keys]; `gradient` is the result's; `sizes` are window, head_dim and shifted.
    """
    from tcm_jax.ops.kernels import swin_sums
    from tcm_jax.ops.kernels.emit import filled

    dx, sums, _ = _swin_gradients(True, x, gradient, biases, layers, *sizes)
    channels, (heads, count) = x.shape[3], biases.shape[1:3]
    ends = np.cumsum(swin_sums.sizes(channels, filled(count), heads))[:-1]
    norm1, q, k, v, qkv_bias, positions, *rest = jnp.split(sums, ends)
    projection, projection_bias, norm2, widen, widen_bias, narrow, narrow_bias = rest

    def norm(part):
        return list(part.reshape(2, -1)[:, :channels])

    def kernel(part, inputs, features):
        return part.reshape(-1, filled(features))[:inputs, :features]

    qkv = jnp.concatenate([kernel(part, channels, channels) for part in (q, k, v)]).T
    of_layers = [*norm(norm1), qkv, qkv_bias[: 3 * channels], kernel(projection, channels, channels)]
    of_layers += [projection_bias[:channels], *norm(norm2), kernel(widen, channels, 4 * channels)]
    of_layers += [widen_bias[: 4 * channels], kernel(narrow, 4 * channels, channels), narrow_bias[:channels]]
    positions = positions.reshape(heads, filled(count), -1)[:, :count, :count]
    return dx, positions.swapaxes(1, 2), of_layers


def _swin_gradients(parameters, x, gradient, biases, layers, window, head_dim, shifted):
    """[gradient of x] and, if those of parameters are wanted, `swin_sums.Sums` of all windows [size] and of parts."""
    from tcm_jax.ops.kernels import swin_gradient, swin_sums

    turned = [calls.packed(layer.T) for layer in layers if layer.ndim == 2]
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
        return calls.call("swin_gradient", results, arguments, parts, scratch, **sizes)
    return calls.call("swin_gradients", results, arguments, swin_sums.parts(size), scratch, parts, **sizes)


def _arranged(biases: jax.Array, layers: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    """Both as the kernels of a Swin block take them: filled up, keys before queries, in panels."""
    biases = calls.filled(calls.filled(biases).swapaxes(2, 3))
    return biases, [calls.packed(layer) if layer.ndim == 2 else calls.filled(layer) for layer in layers]
