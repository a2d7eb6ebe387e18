"""The Gaussian window of eleven taps by which MS-SSIM and SSIMULACRA 2 look at a neighbourhood."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax import ops

TAPS, SIGMA = 11, 1.5


@functools.cache
def gaussian() -> tuple[float, ...]:
    """The taps, whose sum is 1: as many as TAPS."""
    taps = [math.exp(-((i - TAPS // 2) ** 2) / (2 * SIGMA**2)) for i in range(TAPS)]
    return tuple(tap / math.fsum(taps) for tap in taps)


def blurred(maps: Sequence[jax.Array | np.ndarray]) -> Sequence[jax.Array | np.ndarray]:
    """Maps of one shape, blurred where the window fits: each [B, H, W, C] to [B, H - 10, W - 10, C]."""
    if any(isinstance(x, jax.Array) for x in maps):
        return ops.blur([jnp.asarray(x) for x in maps], gaussian())
    return [_sums(_sums(x, 1), 2) for x in maps]


def _sums(x, axis):
    size = x.shape[axis] - TAPS + 1
    parts = (x[(slice(None),) * axis + (slice(i, i + size),)] for i in range(TAPS))
    return sum(np.float32(tap) * part for tap, part in zip(gaussian(), parts, strict=True))
