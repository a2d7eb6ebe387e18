"""3x3 convolution with stride 2, as sums of three products, one for each of the kernel's rows."""

from tcm_jax.ops.kernels.emit import clear, copy, filled, store, tile
from tcm_jax.ops.kernels.machine import COLUMNS, ROWS, STEP
from tcm_jax.ops.kernels.vectors import everywhere, get, maximum, put
from tcm_jax.ops.kernels.xla import argument, first_argument, first_result, number

OUTPUTS = 32  # of a row at a time


def parts(batch: int, height: int, width: int) -> int:
    """Number of parts into which `convolve` is divided."""
    columns = -(-width // 2)
    return batch * -(-height // 2) * -(-columns // OUTPUTS)


def scratch_bytes(channels: int, features: int) -> int:
    """Bytes of memory that a part of `convolve` wants."""
    return 4 * (3 * (2 * OUTPUTS + 1) * channels + OUTPUTS * filled(features)) + 24


def convolve(frame, part, scratch):
    """Part of a convolution with stride 2 and zero padding 1, plus bias, then max(y, slope * y).

    Arguments: x [batch, height, width, channels], kernel [panels, 9 * channels, COLUMNS], bias [panels * COLUMNS],
    slope [1]. Result: y [batch, height / 2, width / 2, features], rounded up.
    """
    x, y = first_argument(frame), first_result(frame)
    kernel, bias, slope = argument(frame, 1), argument(frame, 2), everywhere(number(frame, 3))
    channels, height, width, features = x.channels, x.height, x.width, y.channels
    rows, columns = -(-height // 2), -(-width // 2)
    in_row = -(-columns // OUTPUTS)
    picture, row, column = part // (rows * in_row), part // in_row % rows, part % in_row * OUTPUTS
    outputs, stride = min(OUTPUTS, columns - column), filled(features)
    taps = scratch
    result = taps + 24
    patch = result + 4 * OUTPUTS * stride
    of_row = 4 * (2 * OUTPUTS + 1) * channels
    left, right = 2 * column - 1, min(width, 2 * (column + OUTPUTS))
    for i in range(3):
        r, at = 2 * row - 1 + i, patch + i * of_row
        store(taps + 8 * i, at)
        first = max(left, 0)
        begin, end = (0, 0) if r < 0 or r >= height else (4 * (first - left) * channels, 4 * (right - left) * channels)
        clear(at, begin)
        copy(at + begin, x.address + 4 * ((picture * height + max(0, r)) * width + first) * channels, end - begin)
        clear(at + end, of_row - end)
    for panel in range(stride // COLUMNS):
        b, start = kernel + 4 * panel * 9 * channels * COLUMNS, bias + 4 * panel * COLUMNS
        for output in range(0, outputs, ROWS):
            for i in range(3):
                store(taps + 8 * i, patch + i * of_row + 8 * output * channels)
            to = result + 4 * (output * stride + panel * COLUMNS)
            tile(taps, 3, 2 * channels, 1, b, COLUMNS, 3 * channels, start, 0, to, stride)
    for at in range(result, result + 4 * outputs * stride, STEP):
        put(maximum(get(at), slope * get(at)), at)
    for output in range(outputs):
        pixel = (picture * rows + row) * columns + column + output
        copy(y.address + 4 * pixel * features, result + 4 * output * stride, 4 * features)
    return 0
