"""Matrix products over positions: 1x1 convolutions, and GDN."""

from numba import njit

from tcm_jax.kernels.emit import COLUMNS, LANES, ROWS, copy, store, tile
from tcm_jax.kernels.vectors import get, put, square_root

POSITIONS = 128  # at a time
_VECTOR = 4 * LANES  # bytes


@njit
def _filled(features):
    return -(-features // COLUMNS) * COLUMNS


@njit
def scratch(channels, features):
    """Bytes of memory that `product` wants, and `gdn` for as many features as channels."""
    return 4 * (POSITIONS * (2 * _filled(features) + _filled(channels)) + COLUMNS) + 16


@njit
def _read(x, first, rows, channels, tiles, copied):
    """Address of `rows` rows, of which whole tiles can be read: x's own, or a copy's."""
    if rows == tiles:
        return x + 4 * first * channels
    copy(copied, x + 4 * first * channels, 4 * rows * channels)
    return copied


@njit
def product(part, scratch, x, channels, x2, channels2, positions, kernel, bias, residual, y, features, y2, features2):
    """Part of y, y2 = x, x2 times kernel, plus bias, plus residual; by addresses of float32 arrays.

    x [positions, channels], x2 [positions, channels2], as many or 0; kernel [panels, channels + channels2, COLUMNS],
    bias [panels * COLUMNS]; residual [positions, features + features2] or address 0; y, y2 [positions, features(2)].
    """
    total, filled, inner = features + features2, _filled(features + features2), channels + channels2
    taps, first = scratch, part * POSITIONS
    result = taps + 16
    added = result + 4 * POSITIONS * filled
    copied = added + 4 * filled
    rows = min(POSITIONS, positions - first)
    tiles = -(-rows // ROWS) * ROWS
    left = _read(x, first, rows, channels, tiles, copied)
    right = _read(x2, first, rows, channels2, tiles, copied + 4 * tiles * channels)
    for panel in range(filled // COLUMNS):
        b, start = kernel + 4 * panel * inner * COLUMNS, bias + 4 * panel * COLUMNS
        for row in range(0, tiles, ROWS):
            store(taps, left + 4 * row * channels)
            store(taps + 8, right + 4 * row * channels2)
            to = result + 4 * (row * filled + panel * COLUMNS)
            tile(taps, 2 if channels2 else 1, channels, 1, b, COLUMNS, channels, start, 0, to, filled)
    vectors = features % LANES == 0 and features2 % LANES == 0
    for row in range(rows):
        at, place = result + 4 * row * filled, first + row
        if residual:
            source = residual + 4 * place * total
            if not vectors:
                copy(added, source, 4 * total)
                source = added
            for i in range(0, 4 * total, _VECTOR):
                put(get(at + i) + get(source + i), at + i)
        copy(y + 4 * place * features, at, 4 * features)
        if features2:
            copy(y2 + 4 * place * features2, at + 4 * features, 4 * features2)


@njit
def gdn(part, scratch, x, channels, positions, gamma, beta, residual, inverse, y):
    """Part of y = x / sqrt(beta + x**2 gamma) + residual, or of x * sqrt(...) + residual, if inverse; by addresses.

    x, y, residual [positions, channels], of whole panels; gamma [panels, channels, COLUMNS], beta [channels].
    """
    taps, first = scratch, part * POSITIONS
    norm = taps + 16
    squares = norm + 4 * POSITIONS * channels
    rows = min(POSITIONS, positions - first)
    at_x = x + 4 * first * channels
    for i in range(0, 4 * rows * channels, _VECTOR):
        put(get(at_x + i) * get(at_x + i), squares + i)
    for panel in range(channels // COLUMNS):
        b, start = gamma + 4 * panel * channels * COLUMNS, beta + 4 * panel * COLUMNS
        for row in range(0, rows, ROWS):
            store(taps, squares + 4 * row * channels)
            to = norm + 4 * (row * channels + panel * COLUMNS)
            tile(taps, 1, channels, 1, b, COLUMNS, channels, start, 0, to, channels)
    at_y, at_residual = y + 4 * first * channels, residual + 4 * first * channels
    for i in range(0, 4 * rows * channels, _VECTOR):
        value, root = get(at_x + i), square_root(get(norm + i))
        value = value * root if inverse else value / root
        put(value + get(at_residual + i), at_y + i)
