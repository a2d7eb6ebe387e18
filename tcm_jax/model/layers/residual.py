"""Residual blocks of the transforms (RBS and RBU of Fig. 4 of the paper), and the residual unit of SWAtten."""

from typing import Any

import flax.linen as nn
import jax

from tcm_jax import ops
from tcm_jax.model.layers.conv import Conv1x1, Conv1x1Strided, Conv3x3, SubpelConv
from tcm_jax.model.layers.gdn import GDN


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
        if self.shuffled:
            skipped = Conv1x1(self.features, name="skip")(ops.pixel_unshuffle(x))
        else:
            skipped = Conv1x1Strided(self.features, name="skip")(x)
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
        free: dict[str, Any] = {"parent": None}  # adopted, and so named, by the Sequential
        squeeze, middle, expand = (
            Conv1x1(channels // 2, **free),
            Conv3x3(channels // 2, **free),
            Conv1x1(channels, **free),
        )
        body = nn.Sequential([squeeze, ops.relu, middle, ops.relu, expand], name="conv")
        return ops.relu_of_sum(x, body(x))
