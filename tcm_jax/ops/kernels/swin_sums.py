"""Sums over windows that the gradients of a Swin block's parameters are, one set for each part of a call.

Kernels' rows are filled up to whole tiles of sums, columns to whole panels; what lies beyond a kernel's own is nothing.
"""

from typing import NamedTuple

from numba import float32
from numba.extending import register_jitable

from tcm_jax.ops.kernels.emit import clear, filled, internal, load_float, store, store_float, tile
from tcm_jax.ops.kernels.machine import COLUMNS, LANES, ROWS, STEP
from tcm_jax.ops.kernels.vectors import everywhere, fma, get, put, total
from tcm_jax.ops.kernels.xla import result, result_size

VALUES = 1 << 13  # of one part of `add_parts`


class Sums(NamedTuple):
    """Addresses of a part's sums of float32, in this order; up: rounded up to ROWS. All are 0 if none are wanted."""

    norm1: int  # [2, filled C]: of scale and bias
    of_q: int  # [up C, filled C], as the next two: of qkv's kernel, transposed
    of_k: int
    of_v: int
    qkv_bias: int  # [3, C], filled up
    positions: int  # [heads, keys, queries], both filled up
    projection: int  # [up C, filled C]
    projection_bias: int  # [filled C]
    norm2: int  # as `norm1`
    widen: int  # [up C, filled 4 C]
    widen_bias: int  # [filled 4 C]
    narrow: int  # [up 4 C, filled C]
    narrow_bias: int  # [filled C]


def parts(size: int) -> int:
    """Number of parts into which `add_parts` is divided."""
    return -(-size // VALUES)


@register_jitable
def sizes(channels, room, heads):
    """Numbers of floats of the sums, in the order of `Sums`; `room` is positions filled up."""
    stride, wide = filled(channels), filled(4 * channels)
    kernel = -(-channels // ROWS) * ROWS * stride
    return (
        2 * stride,
        kernel,
        kernel,
        kernel,
        filled(3 * channels),
        heads * room * room,
        kernel,
        stride,
        2 * stride,
        -(-channels // ROWS) * ROWS * wide,
        wide,
        -(-4 * channels // ROWS) * ROWS * stride,
        stride,
    )


@internal
def sums_at(start, part, channels, room, heads):
    """The cleared sums of a part, those of all parts being side by side from the address `start` on."""
    size, of = 0, sizes(channels, room, heads)
    for one in of:
        size += one
    start += 4 * part * size
    clear(start, 4 * size)
    a = start + 4 * of[0]
    b = a + 4 * of[1]
    c = b + 4 * of[2]
    d = c + 4 * of[3]
    e = d + 4 * of[4]
    f = e + 4 * of[5]
    g = f + 4 * of[6]
    h = g + 4 * of[7]
    i = h + 4 * of[8]
    j = i + 4 * of[9]
    k = j + 4 * of[10]
    return Sums(start, a, b, c, d, e, f, g, h, i, j, k, k + 4 * of[11])


@internal
def no_sums():
    """What stands for `Sums` that nobody wants."""
    return Sums(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@internal
def add_norm(deviations, factor, gradient, stride, sums):
    """Adds a row to the gradients of scale and bias, `sums` [2, stride]; it is normed by times `factor`."""
    for at in range(0, 4 * stride, STEP):
        slope, of_bias = get(gradient + at), sums + 4 * stride + at
        put(fma(get(deviations + at) * everywhere(factor), slope, get(sums + at)), sums + at)
        put(get(of_bias) + slope, of_bias)


@internal
def add_product(taps, a, a_row, a_inner, rows, b, inner, columns, c):
    """C [rows, columns] += A [rows, inner] B [inner, columns], in whole tiles."""
    for row in range(0, rows, ROWS):
        store(taps, a + 4 * row * a_row)
        for column in range(0, columns, COLUMNS):
            to = c + 4 * (row * columns + column)
            tile(taps, 1, a_row, a_inner, b + 4 * column, columns, inner, to, columns, to, columns)


@internal
def add_rows(x, rows, stride, sums):
    """Adds all rows of `stride` floats to one."""
    for at in range(0, 4 * stride, STEP):
        value = get(sums + at)
        for row in range(x + at, x + at + 4 * rows * stride, 4 * stride):
            value = value + get(row)
        put(value, sums + at)


@internal
def _add_sums_of_rows(x, rows, count, stride, sums):
    """Adds to each of `sums` the first `count` of a row of `stride` floats."""
    whole = count // LANES * LANES
    for row in range(rows):
        start, lanes = x + 4 * row * stride, everywhere(float32(0))
        for at in range(start, start + 4 * whole, STEP):
            lanes = lanes + get(at)
        value = load_float(sums + 4 * row) + total(lanes)
        for at in range(start + 4 * whole, start + 4 * count, 4):
            value += load_float(at)
        store_float(sums + 4 * row, value)


@internal
def add_qkv(m, sums, count, channels):
    """Adds the gradients of qkv's kernel and bias, by the memory `m` of swin_gradient.py.

    `m.normed` is what qkv gets.
    """
    stride, room = filled(channels), filled(count)
    add_product(m.taps, m.of_q, room, 1, channels, m.normed, count, stride, sums.of_q)
    add_product(m.taps, m.of_k, room, 1, channels, m.normed, count, stride, sums.of_k)
    add_product(m.taps, m.of_v, room, 1, channels, m.normed, count, stride, sums.of_v)
    _add_sums_of_rows(m.of_q, channels, count, room, sums.qkv_bias)
    _add_sums_of_rows(m.of_k, channels, count, room, sums.qkv_bias + 4 * channels)
    _add_sums_of_rows(m.of_v, channels, count, room, sums.qkv_bias + 8 * channels)


def add_parts(frame, part, scratch):
    """Part of the sum of all parts' `Sums`: result 1 [size] of result 2 [parts, size]."""
    target, sums, size, parts = result(frame, 1), result(frame, 2), result_size(frame, 2, 1), result_size(frame, 2, 0)
    for at in range(4 * part * VALUES, 4 * min(size, (part + 1) * VALUES), STEP):
        value = get(sums + at)
        for other in range(1, parts):
            value = value + get(sums + 4 * other * size + at)
        put(value, target + at)
    return 0
