"""The integer tables of the residual layer, of what a file says of them (docs/residual.md)."""

import functools

import numpy as np

from tcm_jax.entropy.pixel_coder import BUCKET_BITS, BUCKETS, FREQUENCY_BITS, LEVELS, MAX_LEVEL_INDEX, PHASES

WIDTHS, EXPONENTS = 76, (1, 2, 3, 4, 6, 8, 12, 20)
MOST_SYMBOLS = 126  # on either side of 0; what is further away is escaped
_THRESHOLDS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 51, 64, 81, 102, 128, 161, 203, 256, 323, 406, 512)
_ROOTS = (65536, 82570, 104032)  # 2**16 times the powers 0, 1/3 and 2/3 of 2
Tables = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@functools.cache
def level_of() -> np.ndarray:
    """Level of each expected error in sixteenths, 0 .. 1023: three an octave; uint8 [1024]."""
    levels = np.searchsorted(_THRESHOLDS, np.arange(MAX_LEVEL_INDEX + 1), side="right").astype(np.uint8)
    assert levels[-1] == LEVELS - 1
    return levels


def squared_width(index: int) -> int:
    """The squared width of a distribution, in sixteenths of squared quarters of a level."""
    return (1 << index // 3) * _ROOTS[index % 3] >> 16


def tables(shapes: np.ndarray, step: int) -> Tables:
    """(buckets, cumulative frequencies, lowest symbols, escapes) of every context and phase.

    `shapes` is uint8 [contexts, 2]: numbers of a width and of an exponent; `step` the quantizer's.
    """
    count = len(shapes) * PHASES
    cumulative = np.full((count, 2 * MOST_SYMBOLS + 3), 1 << FREQUENCY_BITS, np.uint16)
    lowest, escapes = np.zeros(count, np.int32), np.zeros(count, np.int32)
    buckets = np.empty((count, BUCKETS), np.uint8)
    for i, (width, exponent) in enumerate(shapes.tolist()):
        for phase in range(PHASES):
            at = PHASES * i + phase
            sums, low, starts = _table(width, exponent, phase, step)
            cumulative[at, : len(sums)] = sums
            lowest[at], escapes[at], buckets[at] = low, len(sums) - 2, starts
    return buckets, cumulative, lowest, escapes


@functools.lru_cache(maxsize=4096)
def _table(width: int, exponent: int, phase: int, step: int) -> tuple[np.ndarray, int, np.ndarray]:
    """(cumulative frequencies, the first symbol, the symbol at which a search in each bucket begins).

    A symbol k has a mass of (w / (w + z**2)) ** exponent, in 2**24ths, z being its distance from the prediction.
    """
    squared, farthest = squared_width(width), 256 // step + 1
    k = np.arange(-farthest, farthest + 1, dtype=np.int64)
    z = step * (4 * k - phase)
    ratio = (squared << 24) // (squared + 16 * z * z)
    mass = ratio.copy()
    for _ in range(EXPONENTS[exponent] - 1):
        mass = mass * ratio >> 24
    mass[farthest] += 1
    total = int(mass.sum())
    kept = np.flatnonzero(mass << FREQUENCY_BITS + 2 >= total)
    first = max(int(kept[0]), farthest - MOST_SYMBOLS)
    mass = mass[first : min(int(kept[-1]), farthest + MOST_SYMBOLS) + 1]
    mass = np.append(mass, total - mass.sum())
    frequencies = 1 + mass * ((1 << FREQUENCY_BITS) - len(mass)) // total
    frequencies[mass.argmax()] += (1 << FREQUENCY_BITS) - frequencies.sum()
    sums = np.concatenate([[0], np.cumsum(frequencies)])
    starts = np.searchsorted(sums, np.arange(BUCKETS) << BUCKET_BITS, side="right") - 1
    return sums, int(k[first]), starts.astype(np.uint8)
