"""Matrix products over positions: 1x1 convolutions, and GDN."""

from tcm_jax.ops.kernels.emit import copy, filled, internal, store, tile
from tcm_jax.ops.kernels.machine import COLUMNS, LANES, ROWS, STEP
from tcm_jax.ops.kernels.vectors import get, put, square_root
from tcm_jax.ops.kernels.xla import argument, argument_size, attribute, places, result, result_size

POSITIONS = 128  # of one part
_INVERSE = places("inverse")[0]


def parts(positions: int) -> int:
    """Number of parts into which `product` and `gdn` are divided."""
    return -(-positions // POSITIONS)


def scratch_bytes(channels: int, features: int) -> int:
    """Bytes of memory that a part of `product` wants, and one of `gdn` for as many features as channels."""
    return 4 * ((POSITIONS + 2) * filled(features) + POSITIONS * filled(channels)) + 16


@internal
def _read(x, first, rows, channels, tiles, copied):
    """Address of `rows` rows, of which whole tiles can be read: x's own, or a copy's."""
    if rows == tiles:
        return x + 4 * first * channels
    copy(copied, x + 4 * first * channels, 4 * rows * channels)
    return copied


def product(frame, part, scratch):
    """Part of y, y2 = x, x2 times kernel, plus bias, plus residual.

    Arguments: x [positions, channels]; x2 [positions, channels2], as many or 0; kernel [panels, channels + channels2,
    COLUMNS]; bias [panels * COLUMNS]; residual [positions, features + features2, or 0]. Results: y [positions,
    features]; y2 [positions, features2].
    """
    x, positions, channels = argument(frame, 0), argument_size(frame, 0, 0), argument_size(frame, 0, 1)
    x2, channels2, kernel, bias = argument(frame, 1), argument_size(frame, 1, 1), argument(frame, 2), argument(frame, 3)
    residual = argument(frame, 4) if argument_size(frame, 4, 1) else 0
    y, features, y2, features2 = result(frame, 0), result_size(frame, 0, 1), result(frame, 1), result_size(frame, 1, 1)
    total, stride, inner = features + features2, filled(features + features2), channels + channels2
    taps, first = scratch, part * POSITIONS
    sums = taps + 16
    added = sums + 4 * POSITIONS * stride
    copied = added + 4 * stride
    rows = min(POSITIONS, positions - first)
    tiles = -(-rows // ROWS) * ROWS
    left = _read(x, first, rows, channels, tiles, copied)
    right = _read(x2, first, rows, channels2, tiles, copied + 4 * tiles * channels)
    for panel in range(stride // COLUMNS):
        b, start = kernel + 4 * panel * inner * COLUMNS, bias + 4 * panel * COLUMNS
        for row in range(0, tiles, ROWS):
            store(taps, left + 4 * row * channels)
            store(taps + 8, right + 4 * row * channels2)
            to = sums + 4 * (row * stride + panel * COLUMNS)
            tile(taps, 2 if channels2 else 1, channels, 1, b, COLUMNS, channels, start, 0, to, stride)
    vectors = features % LANES == 0 and features2 % LANES == 0
    for row in range(rows):
        at, place = sums + 4 * row * stride, first + row
        if residual:
            source = residual + 4 * place * total
            if not vectors:
                copy(added, source, 4 * total)
                source = added
            for i in range(0, 4 * total, STEP):
                put(get(at + i) + get(source + i), at + i)
        copy(y + 4 * place * features, at, 4 * features)
        if features2:
            copy(y2 + 4 * place * features2, at + 4 * features, 4 * features2)
    return 0


def gdn(frame, part, scratch):
    """Part of y = x / sqrt(beta + x**2 gamma) + residual, or of x * sqrt(...) + residual, as `inverse` says.

    Arguments: x [positions, channels], gamma [panels, channels, COLUMNS], beta [panels * COLUMNS], residual as x.
    Result: y as x. Attribute inverse: 0 or 1.
    """
    x, positions, channels = argument(frame, 0), argument_size(frame, 0, 0), argument_size(frame, 0, 1)
    gamma, beta, residual, y = argument(frame, 1), argument(frame, 2), argument(frame, 3), result(frame, 0)
    inverse = attribute(frame, _INVERSE) != 0
    stride, first = filled(channels), part * POSITIONS
    taps, norm = scratch, scratch + 16
    squares = norm + 4 * POSITIONS * stride
    row_of_x = squares + 4 * POSITIONS * stride  # copies of rows that are no whole vectors
    row_of_residual = row_of_x + 4 * stride
    rows = min(POSITIONS, positions - first)
    vectors = channels % LANES == 0
    for row in range(rows):
        source = x + 4 * (first + row) * channels
        if not vectors:
            copy(row_of_x, source, 4 * channels)
            source = row_of_x
        for i in range(0, 4 * channels, STEP):
            put(get(source + i) * get(source + i), squares + 4 * row * stride + i)
    for panel in range(stride // COLUMNS):
        b, start = gamma + 4 * panel * channels * COLUMNS, beta + 4 * panel * COLUMNS
        for row in range(0, rows, ROWS):
            store(taps, squares + 4 * row * stride)
            to = norm + 4 * (row * stride + panel * COLUMNS)
            tile(taps, 1, stride, 1, b, COLUMNS, channels, start, 0, to, stride)
    for row in range(rows):
        place = 4 * (first + row) * channels
        source, added, target = x + place, residual + place, y + place
        if not vectors:
            copy(row_of_x, source, 4 * channels)
            copy(row_of_residual, added, 4 * channels)
            source, added, target = row_of_x, row_of_residual, row_of_x
        for i in range(0, 4 * channels, STEP):
            value, root = get(source + i), square_root(get(norm + 4 * row * stride + i))
            value = value * root if inverse else value / root
            put(value + get(added + i), target + i)
        if not vectors:
            copy(y + place, row_of_x, 4 * channels)
    return 0
