"""Gradients of a Swin block, window after window, as `swin.py` computes the block: of its map, and of its parameters.

Everything that they need of a window is computed again from its values. Gradients of queries, keys and values are
[channels, positions], so that a head's are rows, as in `swin.py`.
"""

import math
from typing import NamedTuple

from numba import float32

from tcm_jax.ops.kernels import swin
from tcm_jax.ops.kernels.emit import clear, copy, filled, internal, store, tile
from tcm_jax.ops.kernels.functions import gelu_and_slope
from tcm_jax.ops.kernels.machine import COLUMNS, LANES, ROWS, STEP
from tcm_jax.ops.kernels.swin import (
    add,
    attend,
    corner_of,
    layer_norm,
    multiply_rows,
    pixel,
    product,
    sum_of,
)
from tcm_jax.ops.kernels.swin_sums import add_norm, add_product, add_qkv, add_rows, no_sums, sums_at
from tcm_jax.ops.kernels.vectors import everywhere, fma, get, put, total, transpose
from tcm_jax.ops.kernels.xla import argument, attribute, first_argument, places, result

HEAD_DIM, PARAMETERS, SHIFTED, WINDOW, WINDOWS_OF_PART = places(
    "head_dim", "parameters", "shifted", "window", "windows"
)
LEAST_PARTS, MOST_PARTS = 4, 32  # if parameters have gradients: each has sums of its own


def windows_of_part(windows: int, parameters: bool) -> int:
    """How many of all windows a part does."""
    if not parameters:
        return swin.WINDOWS
    return -(-windows // min(max(windows // swin.WINDOWS, LEAST_PARTS), MOST_PARTS))


def scratch_bytes(channels: int, window: int, heads: int) -> int:
    """Bytes of memory that a part of `block` wants."""
    count = filled(window * window)
    rows = 4 * filled(channels) + filled(3 * channels) + 2 * filled(4 * channels)
    heads_of_channels = 5 * (channels + COLUMNS) + heads + (heads + 2) * count
    return 4 * (count * (rows + heads_of_channels) + COLUMNS + filled(4 * channels)) + 24


@internal
def _gelu_gradient(x, gradient, size):
    """`gradient` times the slope of GELU at x, which becomes GELU of x."""
    for at in range(0, 4 * size, STEP):
        value, slope = gelu_and_slope(get(x + at))
        put(value, x + at)
        put(slope * get(gradient + at), gradient + at)


@internal
def _layer_norm_gradient(x, gradient, rows, channels, stride, scale, work, sums, target):
    """Adds to `target` the gradient of a layer norm of `x`, whose result has `gradient`; all [rows, stride].

    Those of scale and bias are added to `sums` [2, stride], unless that is 0. What is beyond the channels is 0 in
    `gradient` and `scale`, and becomes so in `target`. `x` changes, into its deviations from each row's mean.
    """
    weight = float32(1 / channels)
    for row in range(0, 4 * rows * stride, 4 * stride):
        mean = sum_of(x + row, stride, float32(0), False, work) * weight
        wide, along, across = everywhere(float32(0)), everywhere(float32(0)), everywhere(float32(0))
        for at in range(row, row + 4 * stride, STEP):
            put(get(x + at) - everywhere(mean), x + at)
        clear(x + row + 4 * channels, 4 * (stride - channels))
        for at in range(0, 4 * stride, STEP):
            deviation, slope = get(x + row + at), get(gradient + row + at) * get(scale + at)
            wide = fma(deviation, deviation, wide)
            along = along + slope
            across = fma(deviation, slope, across)
        variance = total(wide) * weight
        factor = float32(1 / math.sqrt(variance + float32(1e-5)))
        mean_slope = everywhere(total(along) * weight)
        share = everywhere(total(across) * weight * factor * factor)
        for at in range(0, 4 * stride, STEP):
            slope = get(gradient + row + at) * get(scale + at) - mean_slope - get(x + row + at) * share
            put(fma(slope, everywhere(factor), get(target + row + at)), target + row + at)
        if sums:
            add_norm(x + row, factor, gradient + row, stride, sums)
        clear(target + row + 4 * channels, 4 * (stride - channels))


@internal
def _gradient_of_scores(shares, gradient, count, columns):
    """Gradient of shares [keys, columns] to that of the scores whose softmax down the columns they are, in place."""
    row = 4 * columns
    for column in range(0, row, STEP):
        expected = everywhere(float32(0))
        for at in range(column, column + count * row, row):
            expected = fma(get(shares + at), get(gradient + at), expected)
        for at in range(column, column + count * row, row):
            put(get(shares + at) * (get(gradient + at) - expected), gradient + at)


class _Memory(NamedTuple):
    """Addresses in a part's scratch memory, of float32 but for `taps`; `room` is positions filled up."""

    values: int  # [room, stride]: the window of x
    between: int  # [room, stride]: the same after attention
    normed: int  # [room, stride]: a layer norm's result, or its gradient
    gradient: int  # [room, stride]: that of the block's result, and by and by that of x
    wide: int  # [room, filled 4 channels]: what GELU gets
    slopes: int  # as `wide`: its gradient
    qkv: int  # [room, filled 3 channels]
    attended: int  # [channels, room]: what attention gives, or its gradient
    q: int  # [channels, room], as those of queries, keys and values
    of_q: int
    of_k: int
    of_v: int
    shares: int  # [heads, room, room]
    factors: int  # [heads, room]
    work: int  # [2, room, room]
    zeros: int  # [filled 4 channels]
    taps: int  # [3]: addresses


@internal
def _memory(scratch, channels, room, heads):
    """Scratch memory as `_Memory`; zeros are set, and what lies beyond the channels of the first and the fourth."""
    of_map, of_wide = 4 * room * filled(channels), 4 * room * filled(4 * channels)
    of_head = 4 * room * (channels + COLUMNS)
    wide = scratch + 4 * of_map
    qkv = wide + 2 * of_wide
    attended = qkv + 4 * (room * filled(3 * channels) + COLUMNS)
    shares = attended + 5 * of_head
    factors = shares + 4 * heads * room * room
    work = factors + 4 * heads * room
    zeros = work + 8 * room * room
    clear(zeros, 4 * filled(4 * channels))
    clear(scratch, of_map)
    clear(scratch + 3 * of_map, of_map)
    return _Memory(
        scratch,
        scratch + of_map,
        scratch + 2 * of_map,
        scratch + 3 * of_map,
        wide,
        wide + of_wide,
        qkv,
        attended,
        attended + of_head,
        attended + 2 * of_head,
        attended + 3 * of_head,
        attended + 4 * of_head,
        shares,
        factors,
        work,
        zeros,
        zeros + 4 * filled(4 * channels),
    )


@internal
def _turned(x, rows, columns, x_row, y, y_row):
    """`x` [rows, columns] to `y` [columns, rows], in whole vectors; rows are `x_row` and `y_row` floats apart."""
    for row in range(0, rows, LANES):
        for column in range(0, columns, LANES):
            to = y + 4 * (column * y_row + row)
            transpose(x + 4 * (row * x_row + column), x_row, to, y_row, float32(1))


@internal
def _rows(taps, a, a_row, a_inner, b, rows, inner, columns, zeros, c):
    """C [rows, columns] = A [rows, inner] B [inner, columns], all rows but A's `columns` floats apart.

    Whole tiles are written: what lies beyond the rows is the caller's to put in order.
    """
    for row in range(0, rows, ROWS):
        store(taps, a + 4 * row * a_row)
        for column in range(0, columns, COLUMNS):
            to = c + 4 * (row * columns + column)
            tile(taps, 1, a_row, a_inner, b + 4 * column, columns, inner, zeros, 0, to, columns)


@internal
def _attention_gradient(m, positions, stride, count, channels, head_dim):
    """Those of queries, keys and values from that of what `attend` gives, `m.attended`; rows of `m.qkv` have `stride`.

    A head's rows beyond its own are the next one's, and overwritten. Those of the scores are added to `positions`
    [heads, keys, columns], unless that is 0.
    """
    columns, heads = filled(count), channels // head_dim
    keys, values, turned = m.qkv + 4 * channels, m.qkv + 8 * channels, m.work + 4 * columns * columns
    for head in range(heads):
        at, shares = head * head_dim, m.shares + 4 * head * columns * columns
        first = 4 * at * columns
        multiply_rows(shares, count, columns, m.factors + 4 * head * columns)
        _turned(shares, count, count, columns, turned, columns)
        _rows(m.taps, m.attended + first, columns, 1, turned, head_dim, count, columns, m.zeros, m.of_v + first)
        _rows(m.taps, values + 4 * at, stride, 1, m.attended + first, count, head_dim, columns, m.zeros, m.work)
        _gradient_of_scores(shares, m.work, count, columns)
        if positions:
            add(positions + 4 * head * columns * columns, count * columns, m.work)
        _rows(m.taps, keys + 4 * at, 1, stride, m.work, head_dim, count, columns, m.zeros, m.of_q + first)
        _turned(m.work, count, count, columns, turned, columns)
        _rows(m.taps, m.q + first, columns, 1, turned, head_dim, count, columns, m.zeros, m.of_k + first)
    scale = everywhere(float32(1 / math.sqrt(head_dim)))  # `m.q` has it already
    for at in range(m.of_q, m.of_q + 4 * channels * columns, STEP):
        put(get(at) * scale, at)


@internal
def _qkv_gradient(m, count, channels, kernel):
    """Gradient of what `qkv` gets, `m.normed`, from those of queries, keys and values."""
    stride, columns = filled(channels), filled(count)
    for panel in range(stride // COLUMNS):
        for row in range(0, count, ROWS):
            store(m.taps, m.of_q + 4 * row)
            store(m.taps + 8, m.of_k + 4 * row)
            store(m.taps + 16, m.of_v + 4 * row)
            b, to = kernel + 4 * panel * 3 * channels * COLUMNS, m.normed + 4 * (row * stride + panel * COLUMNS)
            tile(m.taps, 3, 1, columns, b, COLUMNS, channels, m.zeros, 0, to, stride)


@internal
def _again(frame, m, sort, count, channels, head_dim):
    """The block from `m.values` up to `m.wide`, with all that the gradient needs of it."""
    stride, of_qkv, of_wide, room = filled(channels), filled(3 * channels), filled(4 * channels), filled(count)
    layer_norm(m.values, count, channels, stride, argument(frame, 2), argument(frame, 3), m.work, m.normed)
    to_qkv, qkv_bias = argument(frame, 4), argument(frame, 5)
    product(m.taps, m.normed, stride, 1, count, channels, to_qkv, qkv_bias, 3 * channels, m.qkv, of_qkv)
    biases = argument(frame, 1) + 4 * sort * (channels // head_dim) * room * room
    attend(m.qkv, of_qkv, count, channels, head_dim, biases, m.q, m.shares, m.factors, 1, m.zeros, m.taps, m.attended)
    projection, projection_bias = argument(frame, 6), argument(frame, 7)
    product(m.taps, m.attended, 1, room, count, channels, projection, projection_bias, channels, m.between, stride)
    add(m.between, count * stride, m.values)
    layer_norm(m.between, count, channels, stride, argument(frame, 8), argument(frame, 9), m.work, m.normed)
    widen, wide_bias = argument(frame, 10), argument(frame, 11)
    product(m.taps, m.normed, stride, 1, count, channels, widen, wide_bias, 4 * channels, m.wide, of_wide)


@internal
def _back(frame, m, sums, count, channels, head_dim):
    """Makes `m.gradient` that of x, by what `_again` has left; adds those of parameters to `sums`, if wanted."""
    stride, of_qkv, of_wide, room = filled(channels), filled(3 * channels), filled(4 * channels), filled(count)
    to_qkv, projection = argument(frame, 12), argument(frame, 13)
    widen, narrow = argument(frame, 14), argument(frame, 15)
    wanted = sums.norm1 != 0
    product(m.taps, m.gradient, stride, 1, count, channels, narrow, m.zeros, 4 * channels, m.slopes, of_wide)
    _gelu_gradient(m.wide, m.slopes, count * of_wide)
    if wanted:
        add_product(m.taps, m.wide, 1, of_wide, 4 * channels, m.gradient, count, stride, sums.narrow)
        add_rows(m.gradient, count, stride, sums.narrow_bias)
        add_product(m.taps, m.normed, 1, stride, channels, m.slopes, count, of_wide, sums.widen)
        add_rows(m.slopes, count, of_wide, sums.widen_bias)
    product(m.taps, m.slopes, of_wide, 1, count, 4 * channels, widen, m.zeros, channels, m.normed, stride)
    norm1, norm2 = argument(frame, 2), argument(frame, 8)
    _layer_norm_gradient(m.between, m.normed, count, channels, stride, norm2, m.work, sums.norm2, m.gradient)
    if wanted:
        add_product(m.taps, m.attended, room, 1, channels, m.gradient, count, stride, sums.projection)
        add_rows(m.gradient, count, stride, sums.projection_bias)
    product(m.taps, m.gradient, stride, 1, count, channels, projection, m.zeros, channels, m.normed, stride)
    _turned(m.normed, count, channels, stride, m.attended, room)
    _attention_gradient(m, sums.positions, of_qkv, count, channels, head_dim)
    if wanted:
        layer_norm(m.values, count, channels, stride, norm1, argument(frame, 3), m.work, m.normed)
        add_qkv(m, sums, count, channels)
    _qkv_gradient(m, count, channels, to_qkv)
    _layer_norm_gradient(m.values, m.normed, count, channels, stride, norm1, m.work, sums.norm1, m.gradient)


def block(frame, part, scratch):
    """Gradients of the Swin block for part of the windows of a map.

    Arguments: as those of `swin.block` up to the bias of the MLP's first layer (0 to 11); 12 to 15 are the transposed
    kernels of qkv, projection, widen and narrow; 16 is the gradient of the block's result.
    Results: the gradient of x; if those of parameters are wanted, what `add_parts` makes of all parts' `Sums`, and
    these. Attributes: those of `swin.block`; parameters, whether they are wanted, 0 or 1; windows, of a part.
    """
    x, dx, dy = first_argument(frame), result(frame, 0), argument(frame, 16)
    window, head_dim, shifted = attribute(frame, WINDOW), attribute(frame, HEAD_DIM), attribute(frame, SHIFTED) != 0
    channels, windows = x.channels, x.batch * (x.height // window) * (x.width // window)
    of_part = attribute(frame, WINDOWS_OF_PART)
    count, stride, heads = window * window, filled(channels), channels // head_dim
    m, sums = _memory(scratch, channels, filled(count), heads), no_sums()
    if attribute(frame, PARAMETERS):
        sums = sums_at(result(frame, 2), part, channels, filled(count), heads)
    for i in range(part * of_part, min((part + 1) * of_part, windows)):
        corner, sort = corner_of(x, i, window, shifted)
        for place in range(count):
            at = pixel(x, corner, window, place)
            copy(m.values + 4 * place * stride, x.address + at, 4 * channels)
            copy(m.gradient + 4 * place * stride, dy + at, 4 * channels)
        _again(frame, m, sort, count, channels, head_dim)
        _back(frame, m, sums, count, channels, head_dim)
        for place in range(count):
            copy(dx + pixel(x, corner, window, place), m.gradient + 4 * place * stride, 4 * channels)
    return 0
