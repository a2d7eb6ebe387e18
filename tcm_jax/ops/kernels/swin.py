"""A Swin block, window after window: from layer norm to MLP all of a window's values stay in a second-level cache.

Values of a window are rows of channels, filled up with zeros to whole panels. In an attention head's scores the
positions that attend are columns, so that maxima and sums go down vectors.
"""

import math
from typing import NamedTuple

from numba import float32

from tcm_jax.ops.kernels.emit import clear, copy, filled, internal, store, store_float, tile
from tcm_jax.ops.kernels.functions import exp, gelu
from tcm_jax.ops.kernels.machine import COLUMNS, LANES, ROWS, STEP
from tcm_jax.ops.kernels.vectors import everywhere, fma, get, maximum, put, total, transpose
from tcm_jax.ops.kernels.xla import argument, attribute, first_argument, places, result

WINDOWS = 8  # of one part
HEAD_DIM, SHIFTED, WINDOW = places("head_dim", "shifted", "window")


@internal
def _gelu(x, size):
    for at in range(x, x + 4 * size, STEP):
        put(gelu(get(at)), at)


@internal
def sum_of(x, stride, minus, squared, sums):
    """Sum of `stride` values less `minus`, or of their squares; in the same order for vectors of 4, 8 and 16."""
    for lanes in range(0, 64, STEP):
        part = everywhere(float32(0))
        for at in range(lanes, 4 * stride, 64):
            value = get(x + at) - everywhere(minus)
            part = fma(value, value, part) if squared else part + value
        put(part, sums + lanes)
    if LANES == 16:
        return total(get(sums))
    if LANES == 8:
        return total(get(sums) + get(sums + 32))
    return total((get(sums) + get(sums + 32)) + (get(sums + 16) + get(sums + 48)))


@internal
def layer_norm(x, rows, channels, stride, scale, bias, sums, y):
    """Norms `channels` of each row of `stride` floats; the rest, which is 0 in `x`, `scale` and `bias`, stays 0."""
    weight = float32(1 / channels)
    for row in range(0, 4 * rows * stride, 4 * stride):
        mean = sum_of(x + row, stride, float32(0), False, sums) * weight
        for at in range(4 * channels, 4 * stride, 4):
            store_float(x + row + at, mean)  # without a deviation
        variance = sum_of(x + row, stride, mean, True, sums) * weight
        clear(x + row + 4 * channels, 4 * (stride - channels))
        factor = everywhere(float32(1 / math.sqrt(variance + float32(1e-5))))
        for at in range(0, 4 * stride, STEP):
            deviation = get(x + row + at) - everywhere(mean)
            put(fma(deviation * factor, get(scale + at), get(bias + at)), y + row + at)


@internal
def add(x, size, y):
    for at in range(0, 4 * size, STEP):
        put(get(x + at) + get(y + at), x + at)


@internal
def _exponentials(scores, count, columns, factors):
    """Scores [keys, columns] to their exponentials, less each query's greatest score; 1 / their sums to `factors`."""
    row = 4 * columns
    for column in range(0, row, STEP):
        greatest = get(scores + column)
        for at in range(scores + column + row, scores + column + count * row, row):
            greatest = maximum(greatest, get(at))
        sums = everywhere(float32(0))
        for at in range(scores + column, scores + column + count * row, row):
            weights = exp(get(at) - greatest)
            put(weights, at)
            sums = sums + weights
        put(everywhere(float32(1)) / sums, factors + column)


@internal
def multiply_rows(x, rows, columns, factors):
    for row in range(0, 4 * rows * columns, 4 * columns):
        for at in range(0, 4 * columns, STEP):
            put(get(x + row + at) * get(factors + at), x + row + at)


@internal
def product(taps, a, a_row, a_inner, rows, inner, kernel, bias, features, c, c_row):
    """C [rows, filled features] = A [rows, inner] times a packed kernel, plus bias; by addresses."""
    for panel in range(filled(features) // COLUMNS):
        start, b = bias + 4 * panel * COLUMNS, kernel + 4 * panel * inner * COLUMNS
        for row in range(0, rows, ROWS):
            store(taps, a + 4 * row * a_row)
            tile(taps, 1, a_row, a_inner, b, COLUMNS, inner, start, 0, c + 4 * (row * c_row + panel * COLUMNS), c_row)


@internal
def attend(qkv, stride, count, channels, head_dim, biases, q, scores, factors, kept, zeros, taps, y):
    """Attention of one window from its queries, keys and values [count, stride] to y [channels, filled count].

    `q` gets the scaled queries [channels, filled count]. `scores` and `factors` get what `_exponentials` makes of each
    head, one after the other if `kept` is 1, in the same place if it is 0.
    """
    scale, columns = float32(1 / math.sqrt(head_dim)), filled(count)
    for at in range(0, channels, LANES):
        for row in range(0, count, LANES):
            transpose(qkv + 4 * (row * stride + at), stride, q + 4 * (at * columns + row), columns, scale)
    keys, values = qkv + 4 * channels, qkv + 8 * channels
    for at in range(0, channels, head_dim):
        for row in range(0, count, ROWS):
            store(taps, keys + 4 * (row * stride + at))
            for column in range(0, columns, COLUMNS):
                place, b = 4 * (row * columns + column), q + 4 * (at * columns + column)
                tile(taps, 1, stride, 1, b, columns, head_dim, biases + place, columns, scores + place, columns)
        biases += 4 * columns * columns
        _exponentials(scores, count, columns, factors)
        for row in range(at, at + head_dim, ROWS):  # what goes beyond the head is the next head's, and overwritten
            store(taps, values + 4 * row)
            for column in range(0, columns, COLUMNS):
                to = y + 4 * (row * columns + column)
                tile(taps, 1, 1, stride, scores + 4 * column, columns, count, zeros, 0, to, columns)
        multiply_rows(y + 4 * at * columns, head_dim, columns, factors)
        scores += kept * 4 * columns * columns
        factors += kept * 4 * columns


def parts(batch: int, height: int, width: int, window: int) -> int:
    """Number of parts into which `block` is divided."""
    return -(-batch * (height // window) * (width // window) // WINDOWS)


def scratch_bytes(channels: int, window: int) -> int:
    """Bytes of memory that a part of `block` wants."""
    count = filled(window * window)
    rows = 2 * filled(channels) + filled(3 * channels) + filled(4 * channels) + 2 * (channels + COLUMNS) + count
    return 4 * (count * rows + 2 * COLUMNS + count) + 8


class Corner(NamedTuple):
    """Where a window begins: a picture, and row and column of its first position."""

    picture: int
    row: int
    column: int


@internal
def corner_of(x, i, window, shifted):
    """(corner of window number `i` of a map, its number among the four biases)."""
    rows, columns = x.height // window, x.width // window
    row, column = i // columns % rows, i % columns
    shift = window // 2 if shifted else 0
    sort = 2 * (row == rows - 1) + (column == columns - 1) if shifted else 0
    return Corner(i // (rows * columns), row * window + shift, column * window + shift), sort


@internal
def pixel(x, corner, window, place):
    """Bytes from a map's address to position `place` of a window, which wraps around at the map's ends."""
    row, column = (corner.row + place // window) % x.height, (corner.column + place % window) % x.width
    return 4 * ((corner.picture * x.height + row) * x.width + column) * x.channels


def block(frame, part, scratch):
    """The Swin block for part of the windows of a map.

    Arguments: x [batch, height, width, channels]; biases [4, heads, filled keys, filled queries] (nothing masked, the
    last column, the last row, both) or, if not shifted, [1, ...]; then the layers of `attention.swin_block`, kernels
    [panels, inner, COLUMNS], the others filled up likewise. Result: y as x. Attributes: window and head_dim, in
    positions and channels, and shifted, 0 or 1.
    """
    x, y, biases = first_argument(frame), result(frame, 0), argument(frame, 1)
    window, head_dim, shifted = attribute(frame, WINDOW), attribute(frame, HEAD_DIM), attribute(frame, SHIFTED) != 0
    channels, windows = x.channels, x.batch * (x.height // window) * (x.width // window)
    count, room = window * window, filled(window * window)  # positions, and rows for whole tiles of them
    stride, of_qkv, of_wide = filled(channels), filled(3 * channels), filled(4 * channels)
    values = scratch
    normed = values + 4 * room * stride
    wide = normed + 4 * room * stride
    qkv = wide + 4 * room * of_wide
    attended = qkv + 4 * (room * of_qkv + COLUMNS)
    q = attended + 4 * room * (channels + COLUMNS)
    scores = q + 4 * room * (channels + COLUMNS)
    factors = scores + 4 * room * room
    zeros = factors + 4 * room
    taps = zeros + 4 * COLUMNS
    clear(zeros, 4 * COLUMNS)
    clear(values, 4 * room * stride)
    for i in range(part * WINDOWS, min((part + 1) * WINDOWS, windows)):
        corner, sort = corner_of(x, i, window, shifted)
        for place in range(count):
            copy(values + 4 * place * stride, x.address + pixel(x, corner, window, place), 4 * channels)
        layer_norm(values, count, channels, stride, argument(frame, 2), argument(frame, 3), scores, normed)
        to_qkv, qkv_bias = argument(frame, 4), argument(frame, 5)
        product(taps, normed, stride, 1, count, channels, to_qkv, qkv_bias, 3 * channels, qkv, of_qkv)
        of_window = biases + 4 * sort * (channels // head_dim) * room * room
        attend(qkv, of_qkv, count, channels, head_dim, of_window, q, scores, factors, 0, zeros, taps, attended)
        projection, projection_bias = argument(frame, 6), argument(frame, 7)
        product(taps, attended, 1, room, count, channels, projection, projection_bias, channels, normed, stride)
        add(values, count * stride, normed)
        layer_norm(values, count, channels, stride, argument(frame, 8), argument(frame, 9), scores, normed)
        widen, wide_bias = argument(frame, 10), argument(frame, 11)
        product(taps, normed, stride, 1, count, channels, widen, wide_bias, 4 * channels, wide, of_wide)
        _gelu(wide, count * of_wide)
        narrow, narrow_bias = argument(frame, 12), argument(frame, 13)
        product(taps, wide, of_wide, 1, count, 4 * channels, narrow, narrow_bias, channels, normed, stride)
        add(values, count * stride, normed)
        for place in range(count):
            copy(y + pixel(x, corner, window, place), values + 4 * place * stride, 4 * channels)
    return 0
