"""The Swin block (Sec. 3.2 of the paper).

Here are its parameters, in modules that have the reference's names; `ops.swin_block` has the arithmetic and the mask of
shifted windows (ops/shifted_windows.py).
"""

import flax.linen as nn
import jax

from tcm_jax import ops
from tcm_jax.model.layers.conv import kernel_init


class SwinBlock(nn.Module):
    """Windowed self-attention and an MLP, each after a layer norm and with a skip: [B, H, W, C], shape kept.

    H and W are multiples of `window`; `shifted` windows begin half a window further down and right.
    """

    head_dim: int
    window: int
    shifted: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        qkv, positions, projection = AttentionParams(self.head_dim, self.window, name="msa")(channels)
        widen, narrow = MLPParams(name="mlp")(channels)
        norms = NormParams(name="ln1")(channels), NormParams(name="ln2")(channels)
        weights = ops.SwinWeights(norms[0], qkv, positions, projection, norms[1], widen, narrow)
        return ops.swin_block(x, weights, self.window, self.shifted)


class AttentionParams(nn.Module):
    """Parameters of multi-head attention: (qkv, positions, projection) of `ops.SwinWeights`."""

    head_dim: int
    window: int

    @nn.compact
    def __call__(self, channels: int) -> tuple[tuple, jax.Array, tuple]:
        table = (channels // self.head_dim, 2 * self.window - 1, 2 * self.window - 1)
        positions = self.param("relative_position_params", nn.initializers.truncated_normal(0.02), table)
        qkv, projection = LinearParams(3 * channels, name="embedding_layer"), LinearParams(channels, name="linear")
        return qkv(channels), positions, projection(channels)


class MLPParams(nn.Module):
    """Parameters of the MLP: (widen, narrow) of `ops.SwinWeights`."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[tuple, tuple]:
        widen, narrow = LinearParams(4 * channels, name="layers_0"), LinearParams(channels, name="layers_2")
        return widen(channels), narrow(4 * channels)


class LinearParams(nn.Module):
    """Parameters of a linear layer: kernel [inputs, features] and bias [features]."""

    features: int

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", kernel_init, (inputs, self.features))
        return kernel, self.param("bias", nn.initializers.zeros_init(), (self.features,))


class NormParams(nn.Module):
    """Parameters of a layer norm: scale [C] and bias [C]."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[jax.Array, jax.Array]:
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        return scale, self.param("bias", nn.initializers.zeros_init(), (channels,))
