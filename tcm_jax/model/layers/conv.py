"""Convolutions, GDN and residual blocks of the transforms (Fig. 4 of the paper; names as in CompressAI's layers).

All maps are NHWC, float32 or bfloat16: a layer computes in the type of its input. Kernels are stored as the mapping
from the reference's weights wants them: 3x3 kernels HWIO, 1x1 kernels [in, out] (applied as matrix products), GDN
parameters re-parametrised.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax import ops

GDN_PEDESTAL = 2.0**-36
GDN_BETA_MIN = 1e-6

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

    Of several maps it sees the channels side by side; `residual` is added; `halves` gives two maps instead of one. With
    `stride` 2 it sees every second row and column of one map.
    """

    features: int
    halves: bool = False
    stride: int = 1

    @nn.compact
    def __call__(self, *xs: jax.Array, residual: jax.Array | None = None) -> Any:
        kernel = self.param("kernel", kernel_init, (sum(x.shape[-1] for x in xs), self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        if self.stride == 2:
            return ops.conv1x1_strided(*xs, kernel, bias)
        return ops.conv1x1(xs, kernel, bias, residual=residual, halves=self.halves)


class GDN(nn.Module):
    """Generalized divisive normalization (Balle et al. 2016), `inverse=True` multiplies: [B, H, W, C], shape kept.

    `residual`, of the same shape, is added to the result.

    `x / sqrt(beta + gamma @ x**2)` with `beta` [C] and `gamma` [out, in] stored as square roots over a pedestal, so
    that they stay positive while training.
    """

    inverse: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, residual: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        beta = self.param("beta", lambda _, shape: jnp.full(shape, (1 + GDN_PEDESTAL) ** 0.5, jnp.float32), (channels,))
        gamma = self.param(
            "gamma", lambda _, shape: jnp.sqrt(0.1 * jnp.eye(shape[0]) + GDN_PEDESTAL), (channels, channels)
        )
        beta = ops.lower_bound(beta, (GDN_BETA_MIN + GDN_PEDESTAL) ** 0.5) ** 2 - GDN_PEDESTAL
        gamma = ops.lower_bound(gamma, GDN_PEDESTAL**0.5) ** 2 - GDN_PEDESTAL
        return ops.gdn(x, gamma, beta, residual, self.inverse)


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


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with LeakyReLU and a skip connection; channels and size kept."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = Conv3x3(x.shape[-1], leaky=True, name="conv1")(x)
        return x + Conv3x3(x.shape[-1], leaky=True, name="conv2")(y)


class ResidualBlockWithStride(nn.Module):
    """RBS: [B, H, W, C] to [B, H/2, W/2, features]; ends in GDN, the skip is a 1x1 convolution with stride 2.

    With `shuffled` the skip sees all four positions of each 2x2 and not the first alone.
    """

    features: int
    shuffled: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = Conv3x3(self.features, stride=2, leaky=True, name="conv1")(x)
        skip = Conv1x1(self.features, stride=1 if self.shuffled else 2, name="skip")
        skipped = skip(ops.pixel_unshuffle(x) if self.shuffled else x)
        return GDN(name="gdn")(Conv3x3(self.features, name="conv2")(y), skipped)


class ResidualBlockUpsample(nn.Module):
    """RBU: [B, H, W, C] to [B, 2H, 2W, features]; ends in inverse GDN, the skip is a sub-pixel convolution."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = SubpelConv(self.features, leaky=True, name="subpel_conv")(x)
        y = Conv3x3(self.features, name="conv")(y)
        return GDN(inverse=True, name="igdn")(y, SubpelConv(self.features, name="upsample")(x))


class ResidualUnit(nn.Module):
    """1x1, 3x3, 1x1 bottleneck with ReLU around a skip connection (the gate of SWAtten); channels and size kept."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        free = {"parent": None}  # adopted, and so named, by the Sequential
        squeeze, middle, expand = (
            Conv1x1(channels // 2, **free),
            Conv3x3(channels // 2, **free),
            Conv1x1(channels, **free),
        )
        body = nn.Sequential([squeeze, nn.relu, middle, nn.relu, expand], name="conv")
        return nn.relu(x + body(x))
