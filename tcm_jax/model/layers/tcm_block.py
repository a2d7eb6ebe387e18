"""The TCM block: a residual block and a Swin block side by side (Fig. 3 and Eq. 3 to 5 of the paper)."""

import flax.linen as nn
import jax

from tcm_jax.model.layers.conv import Conv1x1
from tcm_jax.model.layers.residual import ResidualBlock
from tcm_jax.model.layers.swin import SwinBlock


class TCMBlock(nn.Module):
    """1x1, split in halves, {residual block | Swin block}, concatenate, 1x1, skip: [B, H, W, C], shape kept.

    `kind` "cnn" and "transformer" give both halves a block of the same sort, for ablations.
    """

    head_dim: int
    window: int
    shifted: bool
    kind: str = "mixed"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        local, non_local = Conv1x1(channels, halves=True, name="conv1_1")(x)
        if self.kind != "transformer":
            local = self.convolve(local, "conv_block")
        else:
            local = self.attend(local, "trans_block_2")
        if self.kind != "cnn":
            non_local = self.attend(non_local, "trans_block")
        else:
            non_local = self.convolve(non_local, "conv_block_2")
        return Conv1x1(channels, name="conv1_2")(local, non_local, residual=x)

    def convolve(self, x: jax.Array, name: str) -> jax.Array:
        """The residual block; the reference adds its input twice, inside the block and here."""
        return ResidualBlock(name=name)(x) + x

    def attend(self, x: jax.Array, name: str) -> jax.Array:
        """The Swin block of one half."""
        return SwinBlock(self.head_dim, self.window, self.shifted, name=name)(x)
