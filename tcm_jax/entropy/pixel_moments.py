"""Numba kernel of what an encoder of the residual layer fits its predictors to: sums of products of the taps."""

import numpy as np
from numpy import float64, int32

from tcm_jax.entropy.pixel_prediction import (
    BIAS,
    BLOCK,
    FIRST_HAT_TAP,
    HAT_TAPS,
    MARGIN,
    OWN_TAPS,
    REFERENCE_TAPS,
    TAPS,
)
from tcm_jax.system.machine_code import INTEGER, Array
from tcm_jax.system.object_code import callee, compiled

_PLANES = Array(int32, 3, readonly=True)


@callee(inline="never")
def _copy(target, source):
    """Copies `source` to `target`; an assignment of slices would copy the source first, which could be the target."""
    for i in range(target.size):
        target[i] = source[i]


@callee(inline="never")
def _gather(taps, n, planes, hats, with_hat, channel, r, a, b):
    """What the taps of row `r`, columns a .. b - 1, see, from column n of `taps` on, and last the sample."""
    m, tap = n + b - a, 0
    p = planes[channel]
    for row, column in OWN_TAPS:
        _copy(taps[tap, n:m], p[r + row, a + column : b + column])
        tap += 1
    for reference in range(min(channel, 2)):
        for row, column in REFERENCE_TAPS:
            _copy(taps[tap, n:m], planes[channel - 1 - reference, r + row, a + column : b + column])
            tap += 1
    tap = FIRST_HAT_TAP
    if with_hat:
        for row, column in HAT_TAPS:
            _copy(taps[tap, n:m], hats[channel, r + row, a + column : b + column])
            tap += 1
    taps[TAPS - 1, n:m] = BIAS
    _copy(taps[TAPS, n:m], p[r, a:b])


def moments(planes: np.ndarray, hats: np.ndarray, with_hat: bool, channel: int, out: np.ndarray) -> None:
    """Sums of products of taps and sample over each block, to `out`; planes are [channels, H + 3, W + 2 MARGIN]."""
    _moments(planes, hats, with_hat, channel, np.zeros((TAPS + 1, BLOCK * BLOCK), np.int32), out)


@compiled(_PLANES, _PLANES, INTEGER, INTEGER, Array(int32, 2), Array(float64, 4))
def _moments(planes, hats, with_hat, channel, taps, out):
    rows, columns = out.shape[0], out.shape[1]
    height, width = planes.shape[1] - 3, planes.shape[2] - 2 * MARGIN
    for i in range(rows):
        for j in range(columns):
            n = 0
            for r in range(i * BLOCK, min((i + 1) * BLOCK, height)):
                a = j * BLOCK
                b = min(a + BLOCK, width)
                _gather(taps, n, planes, hats, with_hat, channel, r + 2, a + MARGIN, b + MARGIN)
                n += b - a
            for p in range(TAPS + 1):
                for q in range(p, TAPS + 1):
                    x, y = taps[p, :n], taps[q, :n]
                    total = int32(0)
                    for c in range(n):
                        total += x[c] * y[c]
                    out[i, j, p, q] = total
                    out[i, j, q, p] = total
    return 0


def load() -> None:
    """Loads the compiled code, for who wants that done before the first call."""
    _moments.load()
