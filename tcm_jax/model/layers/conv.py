"""Convolutions: 3x3, 1x1 and sub-pixel (names as in CompressAI's layers).

All maps are NHWC, float32 or bfloat16: a layer computes in the type of its input. Kernels are stored as the mapping
from the reference's weights wants them: 3x3 kernels HWIO, 1x1 kernels [in, out] (applied as matrix products).
"""

from typing import Any

import flax.linen as nn
import jax

from tcm_jax import ops

# PyTorch's default: uniform in +- 1 / sqrt(fan in).
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv3x3(nn.Module):
    """3x3 convolution with zero padding 1: [B, H, W, C] to [B, ceil(H/stride), ceil(W/stride), features].

    LeakyReLU follows if it is to be `leaky`.
    """

    features: int
    stride: int = 1
    leaky: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return ops.conv3x3(x, kernel, bias, stride=self.stride, leaky=self.leaky)


class Conv1x1(nn.Module):
    """1x1 convolution: [..., C] to [..., features].

    Of several maps it sees the channels side by side; `residual` is added; `halves` gives two maps instead of one.
    """

    features: int
    halves: bool = False

    @nn.compact
    def __call__(self, *xs: jax.Array, residual: jax.Array | None = None) -> Any:
        kernel = self.param("kernel", kernel_init, (sum(x.shape[-1] for x in xs), self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return ops.conv1x1(xs, kernel, bias, residual=residual, halves=self.halves)


class Conv1x1Strided(nn.Module):
    """1x1 convolution of every second row and column: [B, H, W, C] to [B, ceil(H/2), ceil(W/2), features]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return ops.conv1x1_strided(x, kernel, bias)


class Conv3x3Shuffled(nn.Module):
    """3x3 convolution to f*f*features outputs, from a channel-major kernel, and shuffle to [B, f*H, f*W, features]."""

    features: int
    factor: int
    leaky: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        factor, features = self.factor, self.features
        kernel = self.param("kernel", kernel_init, (3, 3, x.shape[-1], features * factor**2))
        bias = self.param("bias", nn.initializers.zeros_init(), (features * factor**2,))
        kernel = kernel.reshape(3, 3, x.shape[-1], features, factor**2).swapaxes(-1, -2).reshape(kernel.shape)
        bias = bias.reshape(features, factor**2).T.reshape(-1)
        return ops.conv3x3(x, kernel, bias, leaky=self.leaky, factor=factor)


class SubpelConv(nn.Module):
    """Sub-pixel convolution: 3x3 convolution and shuffle, [B, H, W, C] to [B, f*H, f*W, features], maybe LeakyReLU."""

    features: int
    factor: int = 2
    leaky: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Conv3x3Shuffled(self.features, self.factor, self.leaky, name="layers_0")(x)
