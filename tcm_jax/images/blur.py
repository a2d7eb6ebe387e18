"""The Gaussian window of eleven taps by which MS-SSIM and SSIMULACRA 2 look at a neighbourhood."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

TAPS, SIGMA = 11, 1.5
_BLOCK = 32  # outputs of one product: the matrix for a whole side would be zeros for the most part


@functools.cache
def gaussian() -> np.ndarray:
    """The taps, whose sum is 1: float32 [TAPS]."""
    taps = np.exp(-((np.arange(TAPS) - TAPS // 2) ** 2) / (2 * SIGMA**2))
    return (taps / math.fsum(taps)).astype(np.float32)


def blurred_down(x: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Blurs each column, where the window fits: [B, H, W, C] to [B, H - 10, W, C].

    JAX arrays are multiplied by banded matrices, block by block: XLA's gradient of eleven shifted sums takes twelve
    times as long as the sums, and where they are fused with others they are computed again and again.
    """
    if not isinstance(x, jax.Array):
        return _sums(x, 1)
    windows = _windows(x.reshape(*x.shape[:2], -1))
    blurred = jnp.einsum("tr,bktw->bkrw", _band(1), windows, precision="highest")
    return blurred.reshape(len(x), -1, *x.shape[2:])[:, : x.shape[1] - TAPS + 1]


def blurred_across(x: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Blurs each row, where the window fits: [B, H, W, C] to [B, H, W - 10, C]."""
    if not isinstance(x, jax.Array):
        return _sums(x, 2)
    *rows, columns, channels = x.shape
    windows = _windows(x.reshape(-1, columns, channels))
    blurred = jnp.matmul(windows.reshape(*windows.shape[:2], -1), _band(channels), precision="highest")
    return blurred.reshape(*rows, -1, channels)[:, :, : columns - TAPS + 1]


def each(blur: Callable, maps: list[jax.Array | np.ndarray]) -> Sequence[jax.Array | np.ndarray]:
    """`blur` of maps of one shape: of JAX arrays as one, which compiles in less time; of NumPy's one by one."""
    if not any(isinstance(x, jax.Array) for x in maps):
        return [blur(x) for x in maps]
    return jnp.split(blur(jnp.concatenate(maps)), len(maps))


def _sums(x, axis):
    size = x.shape[axis] - TAPS + 1
    return sum(tap * x[(slice(None),) * axis + (slice(i, i + size),)] for i, tap in enumerate(gaussian()))


def _windows(x):
    """[N, size, ...] to [N, blocks, _BLOCK + 10, ...]: what each block of outputs needs, zeros beyond the end."""
    blocks = -(-(x.shape[1] - TAPS + 1) // _BLOCK)
    missing = (blocks + 1) * _BLOCK - x.shape[1]
    x = jnp.pad(x, [(0, missing) if axis == 1 else (0, 0) for axis in range(x.ndim)])
    x = x.reshape(len(x), blocks + 1, _BLOCK, *x.shape[2:])
    return jnp.concatenate([x[:, :-1], x[:, 1:, : TAPS - 1]], axis=2)


def _band(channels):
    """The window at each output of a block, of so many channels: [(_BLOCK + 10) channels, _BLOCK channels]."""
    band = sum(tap * np.eye(_BLOCK + TAPS - 1, _BLOCK, -i, dtype=np.float32) for i, tap in enumerate(gaussian()))
    return np.kron(band, np.eye(channels, dtype=np.float32))
