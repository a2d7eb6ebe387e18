"""Weights as the kernels read them, in whole vectors: XLA would compile a loop of its own for each shape."""

from tcm_jax.ops.kernels.emit import clear, copy
from tcm_jax.ops.kernels.xla import argument, argument_size, result, result_size


def columns(frame, part, scratch):
    """Part of y[i, p, r, c] = x[i, r, p * width + c], 0 beyond x: of one i and one p.

    Argument: x [sets, rows, n]. Result: y [sets, panels, rows, width].
    """
    rows, n = argument_size(frame, 0, 1), argument_size(frame, 0, 2)
    panels, width = result_size(frame, 0, 1), result_size(frame, 0, 3)
    first = part % panels * width
    count = max(0, min(width, n - first))
    x = argument(frame, 0) + 4 * (part // panels * rows * n + first)
    y = result(frame, 0) + 4 * part * rows * width
    for row in range(rows):
        copy(y + 4 * row * width, x + 4 * row * n, 4 * count)
        clear(y + 4 * (row * width + count), 4 * (width - count))
    return 0
