"""Window and shifted-window multi-head self-attention, and the Swin block (Liu et al. 2021; Sec. 3.2 of the paper).

A map [B, H, W, C] is cut into strips one window high, [T, window, W, C]: a strip is one piece of memory, so windows
need no copy of the whole map. On a CPU the strips go through the block a few at a time (`nn.scan`), so that a
window's intermediates stay in the cache; an accelerator takes all of them at once. H and W are multiples of the
window.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.model.layers.conv import Conv1x1, gelu
from tcm_jax.ops import kernels

MASKED = -1e9  # exp(x + MASKED - max) is exactly 0 in float32
CPU_HEADS = 512  # windows times heads at a time on a CPU: their attention weights stay in the caches


def relative_positions(window: int) -> np.ndarray:
    """Index [window**2, window**2] into the flattened (2 window - 1)**2 table of offsets between two positions."""
    row, column = np.divmod(np.arange(window**2), window)
    return (row[:, None] - row + window - 1) * (2 * window - 1) + column[:, None] - column + window - 1


def shift_masks(window: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions [window**2, window**2] that a last row, and a last column, of shifted windows keeps apart."""
    row, column = np.divmod(np.arange(window**2), window)
    half = window - window // 2
    return (row[:, None] < half) != (row < half), (column[:, None] < half) != (column < half)


@jax.custom_vjp
def add_bias(logits: jax.Array, bias: jax.Array) -> jax.Array:
    """`logits` [S, columns, heads, n, n] + `bias` [heads, n, n].

    On a CPU the bias's gradient is a product with ones: XLA's own sum over the leading axes takes 20 times as long.
    """
    return logits + bias


def _add_bias_backward(_, gradient):
    if jax.default_backend() != "cpu":
        return gradient, gradient.sum((0, 1))
    flat = gradient.reshape(-1, *gradient.shape[2:])
    return gradient, jnp.einsum("w,whij->hij", jnp.ones(len(flat), flat.dtype), flat)


add_bias.defvjp(lambda logits, bias: (logits + bias, None), _add_bias_backward)


class WindowAttention(nn.Module):
    """Attention inside windows with a relative position bias: strips [S, window, W, C], shape kept."""

    head_dim: int
    window: int
    shifted: bool

    @nn.compact
    def __call__(self, x: jax.Array, last_row: jax.Array) -> jax.Array:
        strips, window, width, channels = x.shape
        heads, columns = channels // self.head_dim, width // window
        x = x.reshape(strips, window, columns, window, channels).swapaxes(1, 2)
        x = x.reshape(strips, columns, window**2, channels)
        qkv = Conv1x1(3 * channels, name="embedding_layer")(x)
        qkv = qkv.reshape(strips, columns, window**2, 3, heads, self.head_dim)
        q = qkv[:, :, :, 0].swapaxes(2, 3)  # [strips, columns, heads, window**2, head_dim]
        # [strips, columns, heads, head_dim, window**2] each: gradients of products in this order are quicker on a CPU.
        k, v = qkv[:, :, :, 1:].transpose(3, 0, 1, 4, 5, 2)
        logits = jnp.matmul(q * self.head_dim**-0.5, k, preferred_element_type=jnp.float32)
        logits = add_bias(logits, self.bias(heads))
        if self.shifted:
            logits += jnp.where(self.apart(columns, last_row), MASKED, 0.0)[:, :, None]
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
        y = (weights.astype(v.dtype) @ v.swapaxes(-1, -2) / weights.sum(-1, keepdims=True)).astype(x.dtype)
        y = y.swapaxes(2, 3).reshape(strips, columns, window**2, channels)
        y = Conv1x1(channels, name="linear")(y)
        y = y.reshape(strips, columns, window, window, channels).swapaxes(1, 2)
        return y.reshape(strips, window, width, channels)

    def bias(self, heads: int) -> jax.Array:
        """Position bias [heads, window**2, window**2]."""
        side = 2 * self.window - 1
        table = self.param(
            "relative_position_params", nn.initializers.truncated_normal(0.02), (heads, side, side)
        ).reshape(heads, side**2)
        return table[:, relative_positions(self.window)]

    def apart(self, columns: int, last_row: jax.Array) -> jax.Array:
        """Which positions of shifted windows do not see each other: [strips, columns, window**2, window**2]."""
        row_mask, column_mask = shift_masks(self.window)
        last_column = (np.arange(columns) == columns - 1)[:, None, None]
        return (last_row[:, None, None, None] & row_mask) | (last_column & column_mask)


class StripBlock(nn.Module):
    """The Swin block on strips [S, window, W, C]: attention and MLP, each after a layer norm, each with a skip.

    Called as the body of a scan: `(carry, (strips, last_row)) -> (carry, strips)`.
    """

    head_dim: int
    window: int
    shifted: bool

    @nn.compact
    def __call__(self, carry, inputs):
        x, last_row = inputs
        attention = WindowAttention(self.head_dim, self.window, self.shifted, name="msa")
        x = x + attention(self.layer_norm("ln1", x.dtype)(x), last_row)
        widen, narrow = Conv1x1(4 * x.shape[-1], parent=None), Conv1x1(x.shape[-1], parent=None)
        mlp = nn.Sequential([widen, gelu, narrow], name="mlp")
        return carry, x + mlp(self.layer_norm("ln2", x.dtype)(x))

    def by_kernel(self, x: jax.Array) -> jax.Array:
        """The block on a whole map [B, H, W, C], by the kernel for CPUs."""
        params = self.variables["params"]
        msa, mlp = params["msa"], params["mlp"]
        table = msa["relative_position_params"]
        biases = table.reshape(len(table), -1)[None, :, relative_positions(self.window)]
        if self.shifted:
            row_mask, column_mask = shift_masks(self.window)
            masks = np.stack([row_mask & False, column_mask, row_mask, row_mask | column_mask])[:, None]
            biases = biases + jnp.where(masks, MASKED, 0.0)
        layers = (params["ln1"], msa["embedding_layer"], msa["linear"], params["ln2"], mlp["layers_0"], mlp["layers_2"])
        flat = [layer[name] for layer in layers for name in ("scale", "kernel", "bias") if name in layer]
        return kernels.swin_block(x, biases, flat, self.window, self.head_dim, self.shifted)

    @staticmethod
    def layer_norm(name: str, dtype) -> nn.LayerNorm:
        """PyTorch's layer norm: epsilon 1e-5, two-pass variance; statistics in float32, result in `dtype`."""
        return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)


def swin_block(head_dim: int, window: int, shifted: bool, name: str):
    """A Swin block as a function of a map [B, H, W, C]; its parameters live under `name` in the calling module."""

    def apply(x: jax.Array) -> jax.Array:
        if kernels.take(x):
            return StripBlock(head_dim, window, shifted, name=name).by_kernel(x)
        batch, height, width, channels = x.shape
        rows, half = height // window, window // 2
        if shifted:
            x = jnp.roll(x, (-half, -half), (1, 2))
        strips = x.reshape(batch * rows, window, width, channels)
        last_row = jnp.tile(jnp.arange(rows) == rows - 1, batch)
        strips = _apply_strips(strips, last_row, head_dim, window, shifted, name)
        x = strips.reshape(x.shape)
        return jnp.roll(x, (half, half), (1, 2)) if shifted else x

    return apply


def _apply_strips(strips, last_row, head_dim, window, shifted, name):
    count, columns = strips.shape[0], strips.shape[2] // window
    heads = strips.shape[-1] // head_dim
    at_once = _divisor_up_to(count, max(1, CPU_HEADS // (columns * heads)))
    if jax.default_backend() != "cpu" or at_once == count:
        return StripBlock(head_dim, window, shifted, name=name)((), (strips, last_row))[1]
    chunks = (strips.reshape(-1, at_once, *strips.shape[1:]), last_row.reshape(-1, at_once))
    # Gradients recompute a chunk while it is in the cache: quicker than reading its attention weights back.
    block = nn.remat(StripBlock, prevent_cse=False)
    scan = nn.scan(block, variable_broadcast="params", split_rngs={"params": False})
    return scan(head_dim, window, shifted, name=name)((), chunks)[1].reshape(strips.shape)


def _divisor_up_to(count: int, limit: int) -> int:
    return max(d for d in range(1, min(count, limit) + 1) if count % d == 0)
