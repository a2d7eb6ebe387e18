"""A filter down and across maps, as metrics look at a neighbourhood."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.ops import kernels
from tcm_jax.ops.compile_target import Target, current
from tcm_jax.ops.cpu_gradients import by_training_kernel, in_shards

_BLOCK = 32  # outputs of one product: the matrix for a whole side would be zeros for the most part
_LEAST_ROW = 16  # values a row from which the kernel can be used: a vector of any machine


def blur(maps: Sequence[jax.Array], taps: tuple[float, ...]) -> list[jax.Array]:
    """Each map's sums of n x n neighbours, weighted by `taps` [n] down and across, where they fit.

    Maps of one shape [B, H, W, C] to [B, H - n + 1, W - n + 1, C].

    Without the kernel they are multiplied, as one, by banded matrices, block by block: XLA's gradient of eleven shifted
    sums takes twelve times as long as the sums, and where they are fused with others they are computed again and again.
    """
    target = current()
    if all(_suits_kernel(x, target) for x in maps):
        return [_by_kernel(x, taps, target.mesh) for x in maps]
    together = jnp.stack(maps, 1)  # the batch stays the first axis, which may be shared among devices
    blurred = _across(_down(together.reshape(-1, *together.shape[2:]), taps), taps)
    blurred = blurred.reshape(*together.shape[:2], *blurred.shape[1:])
    return [blurred[:, i] for i in range(len(maps))]


def _suits_kernel(x: jax.Array, target: Target) -> bool:
    wide = x.shape[2] * x.shape[3] >= _LEAST_ROW
    return wide and (target.by_kernel(x) or by_training_kernel(x, target))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _by_kernel(x, taps, mesh):
    return in_shards(lambda x: kernels.blur(x, jnp.asarray(taps, x.dtype)), mesh, (True,), True)(x)


def _gradient_by_kernel(taps, mesh, _, gradient):
    beyond = (len(taps) - 1,) * 2
    return (_by_kernel(jnp.pad(gradient, ((0, 0), beyond, beyond, (0, 0))), taps[::-1], mesh),)


_by_kernel.defvjp(lambda x, taps, mesh: (_by_kernel(x, taps, mesh), None), _gradient_by_kernel)


def _down(x, taps):
    """[B, H, W, C] to [B, H - n + 1, W, C]."""
    windows = _windows(x.reshape(*x.shape[:2], -1), taps)
    blurred = jnp.einsum("tr,bktw->bkrw", _band(taps, 1), windows, precision="highest")
    return blurred.reshape(len(x), -1, *x.shape[2:])[:, : x.shape[1] - len(taps) + 1]


def _across(x, taps):
    """[B, H, W, C] to [B, H, W - n + 1, C]."""
    *rows, columns, channels = x.shape
    windows = _windows(x.reshape(-1, columns, channels), taps)
    blurred = jnp.matmul(windows.reshape(*windows.shape[:2], -1), _band(taps, channels), precision="highest")
    return blurred.reshape(*rows, -1, channels)[:, :, : columns - len(taps) + 1]


def _windows(x, taps):
    """[N, size, ...] to [N, blocks, _BLOCK + n - 1, ...]: what each block of outputs needs, zeros beyond the end."""
    blocks = -(-(x.shape[1] - len(taps) + 1) // _BLOCK)
    missing = (blocks + 1) * _BLOCK - x.shape[1]
    x = jnp.pad(x, [(0, missing) if axis == 1 else (0, 0) for axis in range(x.ndim)])
    x = x.reshape(len(x), blocks + 1, _BLOCK, *x.shape[2:])
    return jnp.concatenate([x[:, :-1], x[:, 1:, : len(taps) - 1]], axis=2)


def _band(taps, channels):
    """The filter at each output of a block, of so many channels: [(_BLOCK + n - 1) channels, _BLOCK channels]."""
    sizes = _BLOCK + len(taps) - 1, _BLOCK
    band = sum(np.float32(tap) * np.eye(*sizes, -i, dtype=np.float32) for i, tap in enumerate(taps))
    return np.kron(band, np.eye(channels, dtype=np.float32))
