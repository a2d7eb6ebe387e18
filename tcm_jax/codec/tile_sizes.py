"""Which tiles a picture is cut into: those that cost least within a bound of memory.

A picture is one piece as long as that fits. All sizes are those of padded pictures, in pixels: multiples of 128.
What a piece takes was read off XLA's plans: of g_a 82 and of g_s 96 bytes a pixel of the embedded model, which has 24
channels on its finest grid; of the entropy model 8, beside its whole grids.
"""

import functools
from collections.abc import Iterator

from tcm_jax.codec.container import MAX_TILE, MIN_TILE
from tcm_jax.codec.tiles import ENTROPY_HALO
from tcm_jax.model.config import LATENT_STRIDE, PAD_MULTIPLE, ModelConfig

# Pixels of a piece times channels of the finest grid: 12 and 13 Mi pixels of the embedded model, 1.0 and 1.3 GB.
ANALYSIS_VALUES, SYNTHESIS_VALUES = 288 << 20, 312 << 20
ENTROPY_BYTES = 1_600_000_000  # of the entropy model's grids and pieces
_PIECE_BYTES, _TILE_BYTES = 9, 21  # a pixel of one piece of the entropy model, and of a tile, whose inputs are copies
LEAST_PIXELS = 1 << 20  # of a piece, however wide the network is


def piece_pixels(values: int, channels: int) -> int:
    """The most pixels of a piece of g_a or g_s in a network of `channels` on its finest grid."""
    return max(values // channels, LEAST_PIXELS)


@functools.lru_cache(maxsize=64)
def piece_sides(size: tuple[int, int], pixels: int, halo: int) -> tuple[int, int]:
    """Height and width of the tiles of g_a or g_s, at most `pixels` each."""
    if size[0] * size[1] <= pixels:
        return size
    fitting = [
        (rows_cost * columns_cost, -rows * columns, (rows, columns))
        for rows, rows_cost in _balanced(size[0], halo)
        for columns, columns_cost in _balanced(size[1], halo)
        if rows * columns <= pixels
    ]
    return min(fitting)[2]


@functools.lru_cache(maxsize=64)
def entropy_side(size: tuple[int, int], config: ModelConfig) -> int:
    """Side of the square tiles of the entropy model, as a file says it; 0: one piece."""
    if entropy_bytes(size, 0, config) <= ENTROPY_BYTES:
        return 0
    sides = range(MIN_TILE, min(MAX_TILE, max(size) - PAD_MULTIPLE) + 1, PAD_MULTIPLE)
    fitting = [side for side in sides if entropy_bytes(size, side, config) <= ENTROPY_BYTES] or [MIN_TILE]
    return min(fitting, key=lambda side: (covered(size, (side, side), ENTROPY_HALO), -side))


def entropy_bytes(size: tuple[int, int], side: int, config: ModelConfig) -> float:
    """Bytes that coding a slice holds at most: means and scales, y or what is decoded of it, and grids of the slice.

    Where there are several rows of tiles, the largest grids are held for two rows alone (`decoded_slice.py`).
    """
    channels, pixels = config.slice_channels, size[0] * size[1]
    support = config.latent_channels + channels * min(config.max_support, config.num_slices - 1)
    values = pixels * 3 * config.latent_channels
    if 0 < side < size[0]:
        values += min(2 * side, size[0]) * size[1] * (support + 2 * channels)
    else:
        values += pixels * (support + 6 * channels)
    piece = min(side, size[0]) * min(side, size[1]) * _TILE_BYTES if side else pixels * _PIECE_BYTES
    return values * 4 / LATENT_STRIDE**2 + piece


def covered(size: tuple[int, int], sides: tuple[int, int], halo: int) -> float:
    """Pixels of all tiles for each of the picture: what halos make of the cost."""
    rows, columns = (_cost(length, side, halo) for length, side in zip(size, sides, strict=True))
    return rows * columns


def _cost(length: int, side: int, halo: int) -> float:
    return 1.0 if not side or length <= side else -(-(length - 2 * halo) // (side - 2 * halo)) * side / length


def _balanced(length: int, halo: int) -> Iterator[tuple[int, float]]:
    """(side, cost) of the smallest sides that cover `length` with 1, 2, 3 ... tiles, down to 512."""
    side, count = length, 1
    while side >= MIN_TILE or count == 1:
        yield side, _cost(length, side, halo)
        count += 1
        inner = -(-(length - 2 * halo) // count)
        side = -(-(inner + 2 * halo) // PAD_MULTIPLE) * PAD_MULTIPLE
