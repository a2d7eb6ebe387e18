"""The Swin block on windows and shifted windows (Liu et al. 2021; Sec. 3.2 of the paper).

A map [B, H, W, C] is cut into strips one window high, [S, window, W, C]: a strip is one piece of memory, so windows
need no copy of the whole map. H and W are multiples of the window.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.ops import cpu_gradients, map_gradients
from tcm_jax.ops.compile_target import current
from tcm_jax.ops.operations import conv1x1, gelu, lookup

MASKED = -1e9  # exp(x + MASKED - max) is exactly 0 in float32
LAYER_NORM_EPSILON = 1e-5  # PyTorch's
HEADS = 512  # windows times heads at a time on a CPU: their attention weights stay in the caches
Affine = tuple[jax.Array, jax.Array]  # kernel [C, features] and bias [features]; of a norm: scale and bias [C]


class SwinWeights(NamedTuple):
    """Parameters of a Swin block."""

    norm1: Affine
    qkv: Affine  # to queries, keys and values, 3 C
    positions: jax.Array  # bias by offset between two positions [heads, 2 window - 1, 2 window - 1]
    projection: Affine
    norm2: Affine
    widen: Affine  # to 4 C
    narrow: Affine


def swin_block(x: jax.Array, weights: SwinWeights, window: int, shifted: bool) -> jax.Array:
    """Attention in windows, then an MLP, each after a layer norm and with a skip: [B, H, W, C], shape kept."""
    target = current()
    batch, height, width, channels = x.shape
    if target.by_kernel(x) or cpu_gradients.swin_by_kernel(x, window, target):
        return _by_kernel(x, weights, window, shifted, target)
    rows, half = height // window, window // 2
    if shifted:
        x = _rolled(x, half)
    strips = x.reshape(batch * rows, window, width, channels)
    last_row = jnp.tile(jnp.arange(rows) == rows - 1, batch)

    def block(weights, strips, last_row):
        return _block(strips, last_row, weights, shifted)

    if target.on_cpu:
        strips = _few_at_a_time(block, weights, strips, last_row, len(weights.positions) * (width // window))
    else:
        strips = block(weights, strips, last_row)
    x = strips.reshape(x.shape)
    return _rolled(x, -half) if shifted else x


def _rolled(x: jax.Array, by: int) -> jax.Array:
    """A map with its first `by` rows and columns at their ends, or the last at their starts (`by` < 0).

    As `jnp.roll`, which for sizes that are not known yet would ask whether they are larger than `by`.
    """
    for axis in (1, 2):
        at = by if by > 0 else x.shape[axis] + by
        parts = [jax.lax.slice_in_dim(x, start, stop, axis=axis) for start, stop in ((at, None), (0, at))]
        x = jnp.concatenate(parts, axis=axis)
    return x


def _few_at_a_time(block, weights: Any, strips: jax.Array, last_row: jax.Array, heads: int) -> jax.Array:
    """`block(weights, strips, last_row)`, a few strips [S, ...] at a time, of `heads` windows times heads each.

    Gradients recompute a few strips while they are in the cache: quicker than reading their attention weights back.
    """
    limit = max(1, HEADS // heads)
    at_once = max(d for d in range(1, min(len(strips), limit) + 1) if len(strips) % d == 0)
    if at_once == len(strips):
        return block(weights, strips, last_row)
    chunks = strips.reshape(-1, at_once, *strips.shape[1:]), last_row.reshape(-1, at_once)
    checked = jax.checkpoint(block, prevent_cse=False)
    _, results = jax.lax.scan(lambda nothing, chunk: (nothing, checked(weights, *chunk)), (), chunks)
    return results.reshape(strips.shape)


def _block(x, last_row, weights, shifted):
    """The block on strips [S, window, W, C]; `last_row` [S] says which are a map's last."""
    x = x + _attention(_layer_norm(x, *weights.norm1), last_row, weights, shifted)
    hidden = gelu(conv1x1([_layer_norm(x, *weights.norm2)], *weights.widen))
    return x + conv1x1([hidden], *weights.narrow)


def _attention(x, last_row, weights, shifted):
    """Multi-head self-attention inside windows with a relative position bias."""
    strips, window, width, channels = x.shape
    heads, columns = len(weights.positions), width // window
    head_dim = channels // heads
    x = x.reshape(strips, window, columns, window, channels).swapaxes(1, 2)
    x = x.reshape(strips, columns, window**2, channels)
    qkv = conv1x1([x], *weights.qkv).reshape(strips, columns, window**2, 3, heads, head_dim)
    with jax.named_scope("attention"):
        q = qkv[:, :, :, 0].swapaxes(2, 3)  # [strips, columns, heads, window**2, head_dim]
        # [strips, columns, heads, head_dim, window**2] each: gradients of products in this order are quicker on a CPU.
        k, v = qkv[:, :, :, 1:].transpose(3, 0, 1, 4, 5, 2)
        logits = jnp.matmul(q * head_dim**-0.5, k, preferred_element_type=jnp.float32)
        bias = position_bias(weights.positions)
        logits = cpu_gradients.add_bias(logits, bias) if current().on_cpu else logits + bias
        if shifted:
            logits += jnp.where(_apart(columns, last_row, window), MASKED, 0.0)[:, :, None]
        shares = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
        y = (shares.astype(v.dtype) @ v.swapaxes(-1, -2)).astype(jnp.float32)
        y = (y / shares.sum(-1, keepdims=True)).astype(x.dtype)
    y = y.swapaxes(2, 3).reshape(strips, columns, window**2, channels)
    y = conv1x1([y], *weights.projection)
    y = y.reshape(strips, columns, window, window, channels).swapaxes(1, 2)
    return y.reshape(strips, window, width, channels)


def _layer_norm(x, scale, bias):
    """PyTorch's layer norm, two-pass variance; statistics in float32."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    variance = jax.lax.square(wide - mean).mean(-1, keepdims=True)
    factor = jax.lax.rsqrt(variance + LAYER_NORM_EPSILON) * scale
    return ((x.astype(jnp.float32) - mean) * factor + bias).astype(x.dtype)


def relative_positions(window: int) -> np.ndarray:
    """Index [window**2, window**2] into the flattened (2 window - 1)**2 table of offsets between two positions."""
    row, column = np.divmod(np.arange(window**2), window)
    return (row[:, None] - row + window - 1) * (2 * window - 1) + column[:, None] - column + window - 1


def position_bias(table: jax.Array) -> jax.Array:
    """Bias [heads, window**2, window**2] of each pair of positions from the `table` of SwinWeights."""
    heads, side = table.shape[:2]
    return jnp.moveaxis(lookup(table.reshape(heads, side**2).T, relative_positions((side + 1) // 2)), -1, 0)


def shift_masks(window: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions [window**2, window**2] that a last row, and a last column, of shifted windows keeps apart."""
    row, column = np.divmod(np.arange(window**2), window)
    half = window - window // 2
    return (row[:, None] < half) != (row < half), (column[:, None] < half) != (column < half)


def _apart(columns, last_row, window):
    """Which positions of shifted windows do not see each other: [strips, columns, window**2, window**2]."""
    row_mask, column_mask = shift_masks(window)
    last_column = (jnp.arange(columns) == columns - 1)[:, None, None]
    return (last_row[:, None, None, None] & row_mask) | (last_column & column_mask)


def _by_kernel(x, weights, window, shifted, target):
    """The block on a whole map by our kernel, which takes a bias for each sort of window."""
    bias, masks = position_bias(weights.positions), np.zeros((1, 1, window**2, window**2), np.float32)
    if shifted:
        row_mask, column_mask = shift_masks(window)
        masks = np.stack([row_mask & False, column_mask, row_mask, row_mask | column_mask])[:, None]
        masks = np.where(masks, np.float32(MASKED), np.float32(0))
    w = weights
    layers = [part for pair in (w.norm1, w.qkv, w.projection, w.norm2, w.widen, w.narrow) for part in pair]
    sizes = window, x.shape[-1] // len(w.positions), shifted
    if target.by_kernel(x):
        return map_gradients.swin_block(x, bias + masks, layers, *sizes)
    return cpu_gradients.swin_block(x, bias, masks, layers, *sizes, target)
