"""The gradient of a 3x3 convolution's kernel: for each element of it, products of the map's channels and the result's.

A part takes some of the map's channels and some blocks of the result, a few rows of a picture each; all parts of the
same blocks are a group. What is read of a block is packed, so that it stays in a first-level cache.
"""

from typing import NamedTuple

from numba.extending import register_jitable

from tcm_jax.ops.kernels.emit import clear, copy, filled, internal, store, tile
from tcm_jax.ops.kernels.machine import COLUMNS, LANES, ROWS, STEP
from tcm_jax.ops.kernels.vectors import get, put
from tcm_jax.ops.kernels.xla import argument, argument_size, attribute, first_argument, places, result, result_size

POSITIONS = 128  # of a block, if a row has not more
PARTS, SUMS = 16, 1 << 20  # wanted parts, and floats of all groups' sums from which there is one
_CHANNELS, _GROUPS, _STRIDE = places("channels", "groups", "stride")


def division(batch: int, height: int, width: int, channels: int, features: int) -> tuple[int, int]:
    """(groups, channels of a part) for so large a result; the latter are a multiple of LANES."""
    units = -(-channels // LANES)
    blocks = batch * -(-height // _rows_at_once(height, width))
    groups = max(1, min(SUMS // (9 * units * LANES * filled(features)), PARTS, blocks))
    return groups, LANES * -(-units // min(units, -(-PARTS // groups)))


def scratch_bytes(height: int, width: int, channels: int, stride: int) -> int:
    """Bytes of memory that a part of `add_products` wants, of so many channels; of the result's size."""
    rows = _rows_at_once(height, width)
    packed = channels * (stride * (rows - 1) + 3) * (stride * (width - 1) + 3)
    return 4 * (packed + COLUMNS * (rows * width + ROWS + 1)) + 8 * rows


@register_jitable
def _rows_at_once(height, width):
    return min(height, max(1, POSITIONS // width))


class _Block(NamedTuple):
    """Some rows of the result, and what they meet of the map, packed: [channels / LANES, rows, columns, LANES]."""

    picture: int
    row: int  # the first
    count: int
    packed: int  # address
    rows: int  # of `packed`, which begin one above
    columns: int


@internal
def _pack(x, block, stride, first_channel, channels):
    """The map's channels from the first on, those beyond its own being anything; beyond its borders are zeros."""
    clear(block.packed, 4 * channels * block.rows * block.columns)
    above = stride * block.row - 1
    columns = min(x.width, block.columns - 1)
    for unit in range(0, min(channels, x.channels - first_channel), LANES):
        count = min(LANES, x.channels - first_channel - unit)
        for row in range(max(0, -above), min(block.rows, x.height - above)):
            source = ((block.picture * x.height + above + row) * x.width) * x.channels + first_channel + unit
            source, to = x.address + 4 * source, unit * block.rows + LANES * row
            to = block.packed + 4 * (to * block.columns + LANES)
            for column in range(columns):
                at, target = source + 4 * column * x.channels, to + 4 * column * LANES
                if count == LANES:
                    put(get(at), target)
                else:
                    copy(target, at, 4 * count)


@internal
def _pack_columns(gradient, positions, features, column, to):
    """A panel of the result's gradient [positions, features], filled up with zeros: to [positions, COLUMNS]."""
    count = min(COLUMNS, features - column)
    if count < COLUMNS:
        clear(to, 4 * positions * COLUMNS)
    for position in range(positions):
        copy(to + 4 * position * COLUMNS, gradient + 4 * (position * features + column), 4 * count)


@internal
def _add(block, taps, zeros, panel, width, stride, channels, sums, features):
    """Adds to `sums` [9, channels of the part, features] the products of a block and a panel of its gradient.

    `zeros` [COLUMNS] are followed by room for a tile: a block's products are summed alone first, which rounds less.
    """
    products = zeros + 4 * COLUMNS
    for unit in range(0, channels[1], LANES):
        for element in range(9):
            for channel in range(0, min(LANES, channels[1] - unit), ROWS):
                for i in range(block.count):
                    at = unit * block.rows + LANES * (stride * i + element // 3)
                    store(taps + 8 * i, block.packed + 4 * (at * block.columns + LANES * (element % 3) + channel))
                to = sums + 4 * (element * channels[0] + unit + channel) * features
                tile(taps, block.count, 1, stride * LANES, panel, COLUMNS, width, zeros, 0, products, COLUMNS)
                for row in range(ROWS):
                    for at in range(0, 4 * COLUMNS, STEP):
                        place = to + 4 * row * features + at
                        put(get(place) + get(products + 4 * row * COLUMNS + at), place)


def add_products(frame, part, scratch):
    """Part of a kernel's gradient, before `add_groups`.

    Arguments: the map [batch, height, width, C], the gradient of the result [batch, h, w, features]. Results: the
    kernel's gradient [9, C, features]; sums [groups, parts of a group, 9, channels, filled features], which are made
    here. Attributes: the convolution's stride, groups, and channels of a part.
    """
    x, gradient, sums = first_argument(frame), argument(frame, 1), result(frame, 1)
    height, width, features = argument_size(frame, 1, 1), argument_size(frame, 1, 2), argument_size(frame, 1, 3)
    groups, channels, stride = attribute(frame, _GROUPS), attribute(frame, _CHANNELS), attribute(frame, _STRIDE)
    parts, size = -(-x.channels // channels), 9 * channels * filled(features)
    group, first_channel = part // parts, part % parts * channels
    of_both = (channels, min(channels, x.channels - first_channel))
    sums += 4 * part * size
    clear(sums, 4 * size)
    at_once, columns = _rows_at_once(height, width), stride * (width - 1) + 3
    of_picture = -(-height // at_once)
    blocks = x.batch * of_picture
    of_group = -(-blocks // groups)
    zeros, panel = scratch, scratch + 4 * COLUMNS * (ROWS + 1)
    clear(zeros, 4 * COLUMNS)
    taps = panel + 4 * COLUMNS * at_once * width
    packed = taps + 8 * at_once
    for i in range(group * of_group, min(blocks, (group + 1) * of_group)):
        row = i % of_picture * at_once
        count = min(at_once, height - row)
        block = _Block(i // of_picture, row, count, packed, stride * (count - 1) + 3, columns)
        _pack(x, block, stride, first_channel, channels)
        start = gradient + 4 * (block.picture * height + row) * width * features
        for column in range(0, features, COLUMNS):
            _pack_columns(start, count * width, features, column, panel)
            _add(block, taps, zeros, panel, width, stride, of_both, sums + 4 * column, filled(features))
    return 0


def add_groups(frame, part, scratch):
    """Sums of all groups, for one of the nine elements of the kernel's gradient, after `add_products`."""
    channels, features, of_part = result_size(frame, 0, 1), result_size(frame, 0, 2), attribute(frame, _CHANNELS)
    row, parts = filled(features), -(-channels // of_part)
    of_group = parts * 9 * of_part * row
    for channel in range(channels):
        source = ((channel // of_part * 9 + part) * of_part + channel % of_part) * row
        source, target = result(frame, 1) + 4 * source, result(frame, 0) + 4 * (part * channels + channel) * features
        for column in range(0, features, LANES):
            value = get(source + 4 * column)
            for group in range(1, attribute(frame, _GROUPS)):
                value = value + get(source + 4 * (group * of_group + column))
            if column + LANES <= features:
                put(value, target + 4 * column)
            else:
                put(value, scratch)
                copy(target + 4 * column, scratch, 4 * (features - column))
    return 0
