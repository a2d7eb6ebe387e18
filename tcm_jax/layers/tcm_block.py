"""The TCM block: a residual block and a Swin block side by side (Fig. 3 and Eq. 3 to 5 of the paper)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcm_jax.layers.attention import swin_block
from tcm_jax.layers.conv import Conv1x1, ResidualBlock


class TCMBlock(nn.Module):
    """1x1, split in halves, {residual block | Swin block}, concatenate, 1x1, skip: [B, H, W, C], shape kept."""

    head_dim: int
    window: int
    shifted: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        local, non_local = jnp.split(Conv1x1(channels, name="conv1_1")(x), 2, axis=-1)
        # The reference adds the residual block's input twice: inside the block and here.
        local = ResidualBlock(name="conv_block")(local) + local
        non_local = swin_block(self.head_dim, self.window, self.shifted, name="trans_block")(non_local)
        return x + Conv1x1(channels, name="conv1_2")(jnp.concatenate([local, non_local], axis=-1))
