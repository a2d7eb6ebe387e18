"""The Swin block (Sec. 3.2 of the paper): its parameters. `ops.swin_block` has the arithmetic and the shifted mask."""

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
        qkv, positions, projection = Attention(self.head_dim, self.window, name="msa")(channels)
        widen, narrow = MLP(name="mlp")(channels)
        norms = Norm(name="ln1")(channels), Norm(name="ln2")(channels)
        weights = ops.SwinWeights(norms[0], qkv, positions, projection, norms[1], widen, narrow)
        return ops.swin_block(x, weights, self.window, self.shifted)


class Attention(nn.Module):
    """Parameters of multi-head attention: (qkv, positions, projection) of `ops.SwinWeights`."""

    head_dim: int
    window: int

    @nn.compact
    def __call__(self, channels: int) -> tuple[tuple, jax.Array, tuple]:
        table = (channels // self.head_dim, 2 * self.window - 1, 2 * self.window - 1)
        positions = self.param("relative_position_params", nn.initializers.truncated_normal(0.02), table)
        qkv, projection = Linear(3 * channels, name="embedding_layer"), Linear(channels, name="linear")
        return qkv(channels), positions, projection(channels)


class MLP(nn.Module):
    """Parameters of the MLP: (widen, narrow) of `ops.SwinWeights`."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[tuple, tuple]:
        return Linear(4 * channels, name="layers_0")(channels), Linear(channels, name="layers_2")(4 * channels)


class Linear(nn.Module):
    """Parameters of a linear layer: kernel [inputs, features] and bias [features]."""

    features: int

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", kernel_init, (inputs, self.features))
        return kernel, self.param("bias", nn.initializers.zeros_init(), (self.features,))


class Norm(nn.Module):
    """Parameters of a layer norm: scale [C] and bias [C]."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[jax.Array, jax.Array]:
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        return scale, self.param("bias", nn.initializers.zeros_init(), (channels,))
