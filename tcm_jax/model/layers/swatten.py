"""SWAtten: the parameter-efficient Swin-attention block of the entropy model (Fig. 6 and Sec. 3.3 of the paper)."""

import flax.linen as nn
import jax

from tcm_jax import ops
from tcm_jax.model.layers.conv import Conv1x1
from tcm_jax.model.layers.residual import ResidualUnit
from tcm_jax.model.layers.stack import Stack, run
from tcm_jax.model.layers.swin import SwinBlock


class SwinPair(nn.Module):
    """A window block, then a shifted-window block: [B, H, W, C], shape kept."""

    head_dim: int
    window: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = SwinBlock(self.head_dim, self.window, shifted=False, name="block_1")(x)
        return SwinBlock(self.head_dim, self.window, shifted=True, name="block_2")(x)


class SWAtten(nn.Module):
    """Squeeze to `width` channels, attend, gate, add the squeezed features, unsqueeze: [B, H, W, C], shape kept."""

    width: int
    head_dim: int
    window: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        squeezed = Conv1x1(self.width, name="in_conv")(x)
        attended = run(SwinPair(self.head_dim, self.window, name="non_local_block"), squeezed)
        features = Stack(self.units(), name="conv_a")(squeezed)
        gate = Stack([*self.units(), Conv1x1(self.width, parent=None)], name="conv_b")(attended)
        return Conv1x1(x.shape[-1], name="out_conv")(ops.gate(features, gate, squeezed))

    @staticmethod
    def units() -> list[ResidualUnit]:
        """The three residual units of a branch."""
        return [ResidualUnit(parent=None) for _ in range(3)]
