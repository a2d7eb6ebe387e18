"""The gradient of a 3x3 convolution's kernel: products of the map's channels and of the gradient of the result.

With stride 1 the three elements of a kernel's row are found by Winograd's F(3, 4) with the points 0, 1, -1, 2, -2 and
infinity (Lavin and Gray 2016), six products where there were twelve; with stride 2 each is a sum of products.

A part takes some of the map's channels and some blocks of the result, a few rows of a picture each; all parts of the
same blocks are a group. What a block reads is packed, so that it stays in a first-level cache.
"""

from typing import NamedTuple

from numba import float32
from numba.extending import register_jitable

from tcm_jax.ops.kernels.emit import clear, copy, filled, internal, store, tile
from tcm_jax.ops.kernels.machine import COLUMNS, LANES, ROWS, STEP
from tcm_jax.ops.kernels.vectors import everywhere, fma, get, put
from tcm_jax.ops.kernels.xla import argument, argument_size, attribute, first_argument, places, result, result_size

LENGTH = 128  # terms of a sum over a block, if a row has not more
PARTS = 16  # as many are wanted
SUMS = 1 << 21  # the most floats of all groups' sums, unless one group has more
CHANNELS = 32  # of a part of `add_groups`
_CHANNELS, _GROUPS, _STRIDE = places("channels", "groups", "stride")


@register_jitable
def points(stride):
    """How many sums there are for a row of the kernel."""
    return 6 if stride == 1 else 3


@register_jitable
def _terms(width, stride):
    """Of a sum over a row of the result: four positions each with stride 1."""
    return -(-width // 4) if stride == 1 else width


@register_jitable
def _rows_at_once(height, width, stride):
    return min(height, max(1, LENGTH // _terms(width, stride)))


def division(batch: int, height: int, width: int, channels: int, features: int, stride: int) -> tuple[int, int]:
    """(groups, channels of a part) for so large a result; the latter are a multiple of LANES."""
    units = -(-channels // LANES)
    blocks = batch * -(-height // _rows_at_once(height, width, stride))
    size = 3 * points(stride) * units * LANES * filled(features)
    groups = max(1, min(SUMS // size, PARTS, blocks))
    return groups, LANES * -(-units // min(units, -(-PARTS // groups)))


def parts(channels: int) -> int:
    """Number of parts into which `add_groups` is divided."""
    return 3 * -(-channels // CHANNELS)


def scratch_bytes(height: int, width: int, channels: int, stride: int) -> int:
    """Bytes of memory that a part of `add_products` wants, of so many channels; height and width are the result's."""
    rows, terms = _rows_at_once(height, width, stride), _terms(width, stride)
    packed = channels * (stride * (rows - 1) + 3) * points(stride) * terms
    line = LANES * (4 * terms + 3)
    return 4 * (packed + line + COLUMNS * (6 * rows * terms + ROWS + 1 + 4)) + 8 * rows


class _Block(NamedTuple):
    """Some rows of the result, and addresses in a part's scratch memory."""

    picture: int
    row: int  # the first
    count: int
    rows: int  # of the map, which begin one above
    terms: int  # of a row
    packed: int  # the map: [channels / LANES, rows, points, terms, LANES]
    panel: int  # COLUMNS of the result's gradient: [points, count, terms, COLUMNS]; with stride 2 for all points
    line: int  # a row of the map: [4 terms + 3, LANES]
    four: int  # four positions of a panel
    zeros: int  # [COLUMNS]
    products: int  # [ROWS, COLUMNS]
    taps: int  # addresses


@internal
def _block_at(scratch, i, height, width, stride):
    """Block number `i`."""
    at_once, terms = _rows_at_once(height, width, stride), _terms(width, stride)
    of_picture = -(-height // at_once)
    row = i % of_picture * at_once
    count = min(at_once, height - row)
    products = scratch + 4 * COLUMNS
    four = products + 4 * ROWS * COLUMNS
    line = four + 16 * COLUMNS
    panel = line + 4 * LANES * (4 * terms + 3)
    taps = panel + 24 * COLUMNS * at_once * terms
    packed, rows = taps + 8 * at_once, stride * (count - 1) + 3
    return _Block(i // of_picture, row, count, rows, terms, packed, panel, line, four, scratch, products, taps)


@internal
def _transform_inputs(x, y, of_point):
    """Six vectors one after the other at x to the six points, at y and `of_point` bytes further each."""
    d0, d1, d2 = get(x), get(x + STEP), get(x + 2 * STEP)
    d3, d4, d5 = get(x + 3 * STEP), get(x + 4 * STEP), get(x + 5 * STEP)
    two, four, five = everywhere(float32(2)), everywhere(float32(4)), everywhere(float32(-5))
    minus_two, minus_four = everywhere(float32(-2)), everywhere(float32(-4))
    even, odd, even2, odd2 = fma(minus_four, d2, d4), fma(minus_four, d1, d3), d4 - d2, d3 - d1
    put(fma(four, d0, fma(five, d2, d4)), y)
    put(even + odd, y + of_point)
    put(even - odd, y + 2 * of_point)
    put(fma(two, odd2, even2), y + 3 * of_point)
    put(fma(minus_two, odd2, even2), y + 4 * of_point)
    put(fma(four, d1, fma(five, d3, d5)), y + 5 * of_point)


@internal
def _transform_gradients(x, y, of_point):
    """Four vectors, COLUMNS apart, to the six points, as `_transform_inputs`."""
    g0, g1, g2, g3 = get(x), get(x + 4 * COLUMNS), get(x + 8 * COLUMNS), get(x + 12 * COLUMNS)
    even, odd = g0 + g2, g1 + g3
    even2, odd2 = fma(everywhere(float32(4)), g2, g0), everywhere(float32(2)) * fma(everywhere(float32(4)), g3, g1)
    sixth, part = everywhere(float32(-1 / 6)), everywhere(float32(1 / 24))
    put(everywhere(float32(1 / 4)) * g0, y)
    put(sixth * (even + odd), y + of_point)
    put(sixth * (even - odd), y + 2 * of_point)
    put(part * (even2 + odd2), y + 3 * of_point)
    put(part * (even2 - odd2), y + 4 * of_point)
    put(g3, y + 5 * of_point)


@internal
def _pack(x, block, stride, first_channel, channels):
    """So many of the map's channels from the first on, filled up to whole vectors; zeros beyond its borders."""
    of_point = 4 * block.terms * LANES
    for unit in range(0, channels, LANES):
        count = min(LANES, channels - unit)
        for i in range(block.rows):
            row = stride * block.row - 1 + i
            clear(block.line, 4 * LANES * (4 * block.terms + 3))
            if 0 <= row < x.height:
                source = ((block.picture * x.height + row) * x.width * x.channels) + first_channel + unit
                for column in range(x.width):
                    at, target = x.address + 4 * (source + column * x.channels), block.line + STEP * (column + 1)
                    if count == LANES:
                        put(get(at), target)
                    else:
                        copy(target, at, 4 * count)
            to = block.packed + (unit // LANES * block.rows + i) * points(stride) * of_point
            for term in range(block.terms):
                if stride == 1:
                    _transform_inputs(block.line + 4 * STEP * term, to + STEP * term, of_point)
                else:
                    for point in range(3):
                        put(get(block.line + STEP * (2 * term + point)), to + point * of_point + STEP * term)


@internal
def _pack_columns(gradient, block, stride, width, features, column):
    """A panel of the result's gradient [count, width, features] from a column on, filled up with zeros."""
    count, of_term = min(COLUMNS, features - column), 4 if stride == 1 else 1
    of_point = 4 * block.count * block.terms * COLUMNS
    clear(block.four, 16 * COLUMNS)
    for row in range(block.count):
        for term in range(block.terms):
            to = block.panel + 4 * (row * block.terms + term) * COLUMNS
            for i in range(of_term):
                position = of_term * term + i
                if position < width:
                    source = gradient + 4 * ((row * width + position) * features + column)
                    copy(block.four + 4 * COLUMNS * i, source, 4 * count)
                else:
                    clear(block.four + 4 * COLUMNS * i, 4 * COLUMNS)
            for at in range(0, 4 * COLUMNS, STEP):
                if stride == 1:
                    _transform_gradients(block.four + at, to + at, of_point)
                else:
                    put(get(block.four + at), to + at)


@internal
def _add(block, stride, channels, of_part, sums, features):
    """Adds to `sums` [3, points, channels of a part, features] the products of a block and a panel of its gradient.

    A block's are summed alone first, which rounds less.
    """
    of_row, of_point = block.terms * LANES * points(stride), block.terms * LANES
    for unit in range(0, channels, LANES):
        for i in range(3 * points(stride)):
            point = i % points(stride)
            panel = block.panel + 4 * (point if stride == 1 else 0) * block.count * block.terms * COLUMNS
            for channel in range(0, min(LANES, channels - unit), ROWS):
                for row in range(block.count):
                    at = (unit // LANES * block.rows + stride * row + i // points(stride)) * of_row
                    store(block.taps + 8 * row, block.packed + 4 * (at + point * of_point + channel))
                products, zeros = block.products, block.zeros
                tile(block.taps, block.count, 1, LANES, panel, COLUMNS, block.terms, zeros, 0, products, COLUMNS)
                to = sums + 4 * (i * of_part + unit + channel) * features
                for row in range(ROWS):
                    for at in range(0, 4 * COLUMNS, STEP):
                        place = to + 4 * row * features + at
                        put(get(place) + get(products + 4 * row * COLUMNS + at), place)


def add_products(frame, part, scratch):
    """Part of a kernel's gradient, before `add_groups`.

    Arguments: the map [batch, height, width, C], the gradient of the result [batch, h, w, features]. Results: the
    kernel's gradient [9, C, features]; sums [groups, parts of a group, 3, points, channels, filled features], which are
    made here. Attributes: the convolution's stride, groups, and channels of a part.
    """
    x, gradient, sums = first_argument(frame), argument(frame, 1), result(frame, 1)
    height, width, features = argument_size(frame, 1, 1), argument_size(frame, 1, 2), argument_size(frame, 1, 3)
    groups, of_part, stride = attribute(frame, _GROUPS), attribute(frame, _CHANNELS), attribute(frame, _STRIDE)
    parts, size = -(-x.channels // of_part), 3 * points(stride) * of_part * filled(features)
    group, first_channel = part // parts, part % parts * of_part
    sums += 4 * part * size
    clear(sums, 4 * size)
    clear(scratch, 4 * COLUMNS)
    blocks = x.batch * -(-height // _rows_at_once(height, width, stride))
    of_group, channels = -(-blocks // groups), min(of_part, x.channels - first_channel)
    for i in range(group * of_group, min(blocks, (group + 1) * of_group)):
        block = _block_at(scratch, i, height, width, stride)
        _pack(x, block, stride, first_channel, channels)
        start = gradient + 4 * (block.picture * height + block.row) * width * features
        for column in range(0, features, COLUMNS):
            _pack_columns(start, block, stride, width, features, column)
            _add(block, stride, channels, of_part, sums + 4 * column, filled(features))
    return 0


@internal
def _sum_of_groups(sums, groups, of_group):
    value = get(sums)
    for group in range(1, groups):
        value = value + get(sums + 4 * group * of_group)
    return value


@internal
def _put(value, target, count, scratch):
    """Puts the first `count` floats of a vector at an address."""
    if count >= LANES:
        put(value, target)
    else:
        put(value, scratch)
        copy(target, scratch, 4 * count)


def add_groups(frame, part, scratch):
    """Sums of all groups to some channels of one of the kernel's rows, after `add_products`."""
    channels, features, stride = result_size(frame, 0, 1), result_size(frame, 0, 2), attribute(frame, _STRIDE)
    groups, of_part, wide = attribute(frame, _GROUPS), attribute(frame, _CHANNELS), filled(features)
    of_point = 4 * of_part * wide
    of_group = -(-channels // of_part) * 3 * points(stride) * of_part * wide
    two, four = everywhere(float32(2)), everywhere(float32(4))
    element_row, first = part % 3, part // 3 * CHANNELS
    for channel in range(first, min(channels, first + CHANNELS)):
        row = (channel // of_part * 3 + element_row) * points(stride) * of_part + channel % of_part
        for column in range(0, features, LANES):
            at = result(frame, 1) + 4 * (row * wide + column)
            m0 = _sum_of_groups(at, groups, of_group)
            m1 = _sum_of_groups(at + of_point, groups, of_group)
            m2 = _sum_of_groups(at + 2 * of_point, groups, of_group)
            if stride == 1:
                m3 = _sum_of_groups(at + 3 * of_point, groups, of_group)
                m4 = _sum_of_groups(at + 4 * of_point, groups, of_group)
                m5 = _sum_of_groups(at + 5 * of_point, groups, of_group)
                even, odd, even2, odd2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                m0, m1, m2 = m0 + even + even2, fma(two, odd2, odd), fma(four, even2, even) + m5
            target = result(frame, 0) + 4 * ((3 * element_row * channels + channel) * features + column)
            of_element = 4 * channels * features
            _put(m0, target, features - column, scratch)
            _put(m1, target + of_element, features - column, scratch)
            _put(m2, target + 2 * of_element, features - column, scratch)
    return 0
