"""3x3 convolution with fewer multiplications: Winograd's algorithm (Lavin and Gray, arXiv:1509.09308).

Two rows of two outputs, F(2, 3) by F(2, 3), need 16 products for an input channel instead of 36, and differ from a sum
no more than sums of another order do. Two rows of four, F(2, 3) by F(4, 3), need 24 instead of 72, but have ten times
the errors; F(4, 3) by F(4, 3) would need 36 instead of 144, with five times as large ones again.
"""

from typing import NamedTuple

from numba.extending import register_jitable

from tcm_jax.ops.kernels.emit import clear, copy, internal, store, tile
from tcm_jax.ops.kernels.machine import COLUMNS, LANES, ROWS
from tcm_jax.ops.kernels.winograd_transforms import kernel2, kernel4, outputs2, outputs4, patch2, patch4
from tcm_jax.ops.kernels.xla import (
    argument,
    argument_size,
    attribute,
    first_argument,
    first_result,
    number,
    places,
    result,
)

CHANNELS = 8  # of a kernel that are transformed at a time
CACHE = 600_000  # bytes of transformed inputs at a time, for a second-level cache
_FACTOR, _OUT_COLUMNS = places("factor", "out_columns")


@register_jitable
def _whole_vectors(channels):
    """`channels` rounded up to a multiple of LANES."""
    return -(-channels // LANES) * LANES


@register_jitable
def points(out_columns):
    """Products that a patch of two rows of outputs takes."""
    return 4 * (out_columns + 2)


@register_jitable
def _patches_of_part(channels, out_columns):
    """Number of patches that one part has: a multiple of ROWS."""
    return max(1, min(48, CACHE // (4 * points(out_columns) * _whole_vectors(channels))) // ROWS) * ROWS


def parts(batch: int, height: int, width: int, channels: int, out_columns: int) -> int:
    """Number of parts into which `convolve` is divided."""
    patches = batch * -(-height // 2) * -(-width // out_columns)
    return -(-patches // _patches_of_part(channels, out_columns))


def scratch_bytes(channels: int, out_columns: int) -> int:
    """Bytes of memory that a part of `convolve` wants."""
    filled, count = _whole_vectors(channels), points(out_columns)
    patches = _patches_of_part(channels, out_columns)
    return 4 * (count * patches * (filled + COLUMNS) + 2 * filled + 10 * COLUMNS) + 8 * count


def kernel_parts(channels: int) -> int:
    """Number of parts into which `transform_kernel` is divided."""
    return -(-channels // CHANNELS)


def transform_kernel(frame, part, scratch):
    """Transforms part of argument 1, a kernel [3, 3, channels, features], for `convolve`.

    Result 1 is u [points, panels, channels, COLUMNS]. Attributes are those of `convolve`.
    """
    kernel, channels, features = argument(frame, 1), argument_size(frame, 1, 2), argument_size(frame, 1, 3)
    u, out_columns = result(frame, 1), attribute(frame, _OUT_COLUMNS)
    panels = -(-features // COLUMNS)
    for channel in range(part * CHANNELS, min(channels, (part + 1) * CHANNELS)):
        for panel in range(panels):
            first = kernel + 4 * (channel * features + panel * COLUMNS)
            target, stride = u + 4 * (panel * channels + channel) * COLUMNS, panels * channels * COLUMNS
            count = min(COLUMNS, features - panel * COLUMNS)
            if out_columns == 2:
                kernel2(first, channels * features, target, stride, count)
            else:
                kernel4(first, channels * features, target, stride, count)
    return 0


class _Patches(NamedTuple):
    """Which patches a part has: `count` from number `first` on, `rows` x `columns` a picture; memory has `room`."""

    first: int
    count: int
    room: int
    rows: int
    columns: int
    out_columns: int


class _Memory(NamedTuple):
    """Addresses in a part's scratch memory; of float32 but for `table`."""

    v: int  # [points, patches, filled channels]: transformed inputs
    m: int  # [points, patches, COLUMNS]: their products with a panel of the kernel
    zeros: int  # [filled channels or COLUMNS, whatever is more]
    last: int  # [filled channels]: copy of the map's last pixel, behind which no vector can be read
    results: int  # [8, LANES]: of a patch, where they are no whole vectors or no part of the map
    table: int  # [points]: addresses


@internal
def _patches(x, out_columns, part):
    """The `_Patches` of a part."""
    rows, columns, room = -(-x.height // 2), -(-x.width // out_columns), _patches_of_part(x.channels, out_columns)
    first = part * room
    return _Patches(first, min(room, x.batch * rows * columns - first), room, rows, columns, out_columns)


@internal
def _memory(scratch, channels, patches):
    """Scratch memory as `_Memory`, with its zeros set."""
    filled, count = _whole_vectors(channels), points(patches.out_columns)
    m = scratch + 4 * count * patches.room * filled
    zeros = m + 4 * count * patches.room * COLUMNS
    last = zeros + 4 * max(filled, COLUMNS)
    results = last + 4 * filled
    clear(zeros, 4 * max(filled, COLUMNS))
    return _Memory(scratch, m, zeros, last, results, results + 4 * 8 * LANES)


@internal
def _place(patches, patch):
    """(picture, row, column) of a patch's first output."""
    i = patches.first + patch
    in_picture = patches.rows * patches.columns
    return i // in_picture, i // patches.columns % patches.rows * 2, i % patches.columns * patches.out_columns


@internal
def _gather(x, patches, memory):
    """Transforms the inputs of all patches to memory.v."""
    filled, count = _whole_vectors(x.channels), points(patches.out_columns)
    in_columns, pixels = patches.out_columns + 2, x.batch * x.height * x.width
    copy(memory.last, x.address + 4 * (pixels - 1) * x.channels, 4 * x.channels)
    for patch in range(patches.count):
        picture, row, column = _place(patches, patch)
        for i in range(count):
            r, c = row - 1 + i // in_columns, column - 1 + i % in_columns
            inside, pixel = 0 <= r < x.height and 0 <= c < x.width, (picture * x.height + r) * x.width + c
            source = memory.last if pixel == pixels - 1 else x.address + 4 * x.channels * pixel
            store(memory.table + 8 * i, source if inside else memory.zeros)
        if patches.out_columns == 2:
            patch2(memory.table, memory.v + 4 * patch * filled, patches.room * filled, filled)
        else:
            patch4(memory.table, memory.v + 4 * patch * filled, patches.room * filled, filled)


@internal
def _multiply(u, panel, panels, channels, patches, memory):
    """Products of memory.v with one panel of the transformed kernel u, to memory.m."""
    filled = _whole_vectors(channels)
    for i in range(points(patches.out_columns)):
        of_point = u + 4 * (i * panels + panel) * channels * COLUMNS
        for patch in range(0, patches.count, ROWS):
            store(memory.table, memory.v + 4 * (i * patches.room + patch) * filled)
            to = memory.m + 4 * (i * patches.room + patch) * COLUMNS
            tile(memory.table, 1, filled, 1, of_point, COLUMNS, channels, memory.zeros, 0, to, COLUMNS)


@internal
def _scatter(at, bias, slope, y, factor, patches, memory):
    """Outputs from memory.m to LANES features of y from number `at` on, plus bias, then max(y, slope * y)."""
    place, feature = at // y.channels, at % y.channels
    valid, out_columns = min(LANES, y.channels * factor * factor - at), patches.out_columns
    for patch in range(patches.count):
        picture, row, column = _place(patches, patch)
        for i in range(2 * out_columns):
            up = (row + i // out_columns) * factor + place // factor
            left = (column + i % out_columns) * factor + place % factor
            target = y.address + 4 * (((picture * y.height + up) * y.width + left) * y.channels + feature)
            whole = up < y.height and left < y.width and valid == LANES
            store(memory.table + 8 * i, target if whole else memory.results + 4 * i * LANES)
        of_patch = memory.m + 4 * (patch * COLUMNS + at % COLUMNS)
        if out_columns == 2:
            outputs2(of_patch, patches.room * COLUMNS, bias + 4 * at, slope, memory.table)
        else:
            outputs4(of_patch, patches.room * COLUMNS, bias + 4 * at, slope, memory.table)
        if valid < LANES:  # the factor is 1
            for i in range(2 * out_columns):
                r, c = row + i // out_columns, column + i % out_columns
                if r < y.height and c < y.width:
                    target = y.address + 4 * (((picture * y.height + r) * y.width + c) * y.channels + feature)
                    copy(target, memory.results + 4 * i * LANES, 4 * valid)


def convolve(frame, part, scratch):
    """Part of a convolution with zero padding 1, plus bias, then max(y, slope * y).

    Arguments: x [batch, height, width, channels], the kernel for `transform_kernel`, bias [panels * COLUMNS], slope
    [1]. Results: y [batch, factor * height, factor * width, features], whose factor**2 * features outputs are ordered
    (row, column, feature), and u, which `transform_kernel` has made. `features` are whole vectors unless the factor is
    1; there are LANES channels or more. Attribute out_columns: 2 or 4 outputs a row of a patch.
    """
    x, y, u = first_argument(frame), first_result(frame), result(frame, 1)
    bias, slope, factor = argument(frame, 2), number(frame, 3), attribute(frame, _FACTOR)
    patches = _patches(x, attribute(frame, _OUT_COLUMNS), part)
    memory = _memory(scratch, x.channels, patches)
    total = y.channels * factor * factor
    panels = -(-total // COLUMNS)
    _gather(x, patches, memory)
    for panel in range(panels):
        _multiply(u, panel, panels, x.channels, patches, memory)
        for at in range(panel * COLUMNS, min(total, (panel + 1) * COLUMNS), LANES):
            _scatter(at, bias, slope, y, factor, patches, memory)
    return 0
