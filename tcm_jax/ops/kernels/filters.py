"""A filter down and across a map, where it fits: the Gaussian window of metrics."""

from numba import float32

from tcm_jax.ops.kernels.emit import copy, internal, load_float
from tcm_jax.ops.kernels.machine import STEP
from tcm_jax.ops.kernels.vectors import everywhere, fma, get, put
from tcm_jax.ops.kernels.xla import argument, argument_size, first_argument, first_result

ROWS_OF_PART = 8


def parts(batch: int, rows: int) -> int:
    """Number of parts into which `blur` is divided, for so many rows of the result."""
    return batch * -(-rows // ROWS_OF_PART)


def scratch_bytes(width: int, channels: int) -> int:
    """Bytes of memory that a part of `blur` wants, of a map of so many columns."""
    return 2 * (4 * width * channels + STEP)


@internal
def _weighted_sum(source, distance, taps, count):
    """The sum of taps[i] times the vector `i * distance` bytes after the address `source`."""
    value = everywhere(float32(0))
    for i in range(count):
        value = fma(everywhere(load_float(taps + 4 * i)), get(source + i * distance), value)
    return value


def blur(frame, part, scratch):
    """Part of y[b, r, c] = sum of taps[i] taps[j] x[b, r + i, c + j] over i and j.

    Arguments: x [B, H, W, C] with at least LANES values a row, taps [n]. Result: y [B, H - n + 1, W - n + 1, C].
    """
    x, y = first_argument(frame), first_result(frame)
    taps, count = argument(frame, 1), argument_size(frame, 1, 0)
    of_picture = -(-y.height // ROWS_OF_PART)
    picture, first = part // of_picture, part % of_picture * ROWS_OF_PART
    row, row_of_result = 4 * x.width * x.channels, 4 * y.width * y.channels
    down, across = scratch, scratch + row + STEP
    for r in range(first, min(first + ROWS_OF_PART, y.height)):
        source = x.address + (picture * x.height + r) * row
        for at in range(0, row, STEP):
            at = min(at, row - STEP)  # the last vector ends with the row
            put(_weighted_sum(source + at, row, taps, count), down + at)
        for at in range(0, row_of_result, STEP):  # what lies beyond the row is not copied
            put(_weighted_sum(down + at, 4 * x.channels, taps, count), across + at)
        copy(y.address + (picture * y.height + r) * row_of_result, across, row_of_result)
    return 0
