"""Numba kernel for pictures that repeat themselves: a pixel followed the same neighbours before, or is new.

docs/repeats.md specifies the arithmetic. Encoder and decoder are one function, so that they cannot differ. A pixel is
one integer, red << 16 | green << 8 | blue, or the grey sample. Guesses are tried one after the other; whether one is
right is an adaptive bit.
"""

import numpy as np
from numpy import int32, int64, uint8, uint16

from tcm_jax.entropy.binary_coder import MASK, code_bit, code_number, even_chances, open_coder
from tcm_jax.system.machine_code import INTEGER, Array
from tcm_jax.system.object_code import callee, compiled

MARGIN = 6  # columns of a buffer beside the picture
PAIR_BITS, LOW_BITS, HIGH_BITS, MATCH_BITS = 14, 16, 18, 16  # of the tables of what followed 2, 4, 10, 15 neighbours
CACHE_BITS = 10  # of the colours that came last
_PIXEL, _CHANCE, _SEEN = 21, 5, 31  # an entry is (pixel + 1) << _PIXEL | chance << _CHANCE | times seen, or 0
GUESSES = 8  # a match that goes on, three tables, W, N, NE, NW
_FLAGS = GUESSES * 4 * 16 * 64
_TREE = 256 * 256
_CACHE = 64 << CACHE_BITS
_NUMBERS = 3 * 16 * 64  # channel, activity; zero, sign, exponent, first bits
# 2**32 by the divisors of `_learn`, rounded up: a product shifted by 32 is the quotient of any number below 2**18.
_INVERSES = -(-(1 << 32) // np.arange(3, 64, 2, dtype=np.int64))
AHEAD = 2  # bytes that a decoder has read when it is done, beyond the two that an encoder adds at the end


_callee = callee(inline="never")
_INTS, _LONGS, _CHANCES = Array(int32, 1), Array(int64, 1), Array(uint16, 2)


@_callee
def _number(coder, stream, chances, value, encoding):
    """Codes an integer from -255 to 255: whether it is 0, its sign, how many bits it has, and they; 64 chances."""
    if code_bit(coder, stream, chances, 0, int64(value == 0), encoding):
        return 0
    negative = code_bit(coder, stream, chances, 1, int64(value < 0), encoding)
    size = abs(value)
    bits = 1
    while bits < 8 and code_bit(coder, stream, chances, 1 + bits, int64(size >> bits != 0), encoding):
        bits += 1
    result = 1
    for shift in range(bits - 2, -1, -1):
        at = 10 + 4 * bits + min(result, 3) if shift >= bits - 3 else 46 + shift
        result = result << 1 | code_bit(coder, stream, chances, at, (size >> shift) & 1, encoding)
    return -result if negative else result


@_callee
def _median(west, north, northwest):
    """The median of west, north and west + north - northwest (LOCO-I)."""
    if northwest >= max(west, north):
        return min(west, north)
    if northwest <= min(west, north):
        return max(west, north)
    return west + north - northwest


@_callee
def _colour(coder, stream, numbers, pixel, west, north, northwest, channels, encoding):
    """Codes a pixel by what its channels, green first, differ from the median predictor and from green's difference."""
    result, before = 0, 0
    for i in range(channels):
        shift = (8, 16, 0)[i] if channels == 3 else 0
        a, b, c = (west >> shift) & 255, (north >> shift) & 255, (northwest >> shift) & 255
        guess = min(max(_median(a, b, c) + before, 0), 255)
        activity = abs(a - c) + abs(b - c) + abs(before)
        level = 0
        while activity >> level and level < 8:
            level += 1
        at = (i * 16 + level) * 64
        difference = _number(coder, stream, numbers[at : at + 64], ((pixel >> shift) & 255) - guess, encoding)
        value = (guess + difference) & 255
        if i == 0:
            before = value - _median(a, b, c)
        result |= value << shift
    return result


@_callee
def _hashes(line, up, upup, c):
    """Places in the tables of 2, 4, 10 and 15 neighbours."""
    pair = (int64(line[c - 1]) * 0x3C6EF372 + int64(up[c]) * 0x1B873593) & MASK
    pair = ((pair ^ pair >> 15) * 0x2C1B3C6D) & MASK
    low = int64(line[c - 1]) * 0x2545F491 + int64(up[c]) * 0x1B873593 + int64(up[c - 1]) * 0x27D4EB2F
    low = (low + int64(up[c + 1]) * 0x165667B1) & MASK
    high = low * 0x85EBCA6B + int64(line[c - 2]) * 0x45D9F3B + int64(line[c - 3]) * 0x119DE1F3
    high = (high & MASK) + int64(upup[c]) * 0x344B5409 + int64(up[c + 2]) * 0x1C69B3F5
    high = (high & MASK) + int64(up[c - 2]) * 0x0E2AD7A9 + int64(upup[c + 1]) * 0x1E35A7BD
    low = ((low ^ low >> 15) * 0x2C1B3C6D) & MASK
    high = (((high & MASK) ^ (high & MASK) >> 15) * 0x297A2D39) & MASK
    match = (high * 0x85EBCA6B & MASK) + int64(line[c - 4]) * 0x45D9F3B + int64(line[c - 5]) * 0x119DE1F3
    match = (match & MASK) + int64(line[c - 6]) * 0x344B5409 + int64(up[c + 3]) * 0x1C69B3F5
    match = (match & MASK) + int64(upup[c - 1]) * 0x0E2AD7A9
    match = (((match & MASK) ^ (match & MASK) >> 15) * 0x297A2D39) & MASK
    return pair >> 32 - PAIR_BITS, low >> 32 - LOW_BITS, high >> 32 - HIGH_BITS, match >> 32 - MATCH_BITS


@_callee
def _learned(entry, guess, pixel, inverses):
    """A table's entry after a guess, its own or another one's; a guess that is mostly wrong is replaced."""
    known, chance, seen = entry >> _PIXEL, entry >> _CHANCE & 0xFFFF, entry & _SEEN
    # Rounded down, by 2 * seen + 3.
    if guess == pixel:
        chance += (65535 - chance) * 2 * inverses[seen] >> 32
    else:
        chance -= (chance + seen + 1) * 2 * inverses[seen] >> 32
    if seen < 30:
        seen += 1
    if seen == 1 and guess < 0:
        chance = 49152
        known = pixel + 1
    elif chance < 32768:
        known = pixel + 1
        chance = 65535 - chance
        seen = min(seen, 4)
    return known << _PIXEL | chance << _CHANCE | seen


@_callee
def _place(pixel):
    """Where a colour stands in the cache, if it does."""
    return (int64(pixel) * 0x1E35A7BD & MASK) >> 32 - CACHE_BITS


@_callee
def _pixel(samples, at):
    """The pixel number `at`, counted along the rows."""
    pixel = 0
    for i in range(samples.shape[1]):
        pixel = pixel << 8 | samples[at, i]
    return pixel


@callee(inline="always")
def _certainty(entry):
    """How far an entry's guess is to be trusted: how often it was met, and its chance in sixteenths.

    0 .. 63; below 0 for one that never was.
    """
    return min(entry & _SEEN, 4) - 1 << 4 | entry >> _CHANCE + 12 & 15


@callee(inline="always")
def _chance_of(number, certainty, guess, west, north, pattern):
    """Which chance a guess has."""
    return ((number * 64 + certainty) * 4 + (guess == west) + 2 * (guess == north)) * 16 + pattern


@_callee
def _guessed(coder, stream, flags, guesses, certainties, pixel, west, north, pattern, encoding):
    """(which of the guesses from 1 on is right or -1, the pixel); none below 0 is tried, nor one before it again."""
    for i in range(1, GUESSES):
        guess = guesses[i]
        tried = guess < 0
        for j in range(i):
            tried |= guesses[j] == guess
        if tried:
            continue
        at = _chance_of(i, certainties[i], guess, west, north, pattern)
        if code_bit(coder, stream, flags, at, int64(guess == pixel), encoding):
            return i, guess
    return -1, pixel


@_callee
def _in_palette(coder, stream, tree, palette, bits, pixel, west, encoding):
    """Codes a pixel by its number in the palette, of so many bits."""
    around = ((int64(west) * 0x2545F491 & MASK) >> 24) << 8
    index = 0
    if encoding:
        index = np.searchsorted(palette, pixel)
    index = code_number(coder, stream, tree[around : around + 256], index, bits, encoding)
    return int64(palette[min(index, palette.size - 1)])


@_callee
def _new(coder, stream, cache, cached, in_cache, numbers, pixel, west, north, northwest, channels, pattern, encoding):
    """Codes a pixel as one of the colours that came last, or by its channels."""
    place = _place(pixel)
    known = code_bit(coder, stream, in_cache, pattern, int64(cache[place] == pixel + 1), encoding)
    if known:
        around = ((int64(west) * 0x2545F491 & MASK) >> 26) << CACHE_BITS
        node = cached[around : around + (1 << CACHE_BITS)]
        pixel = max(int64(cache[code_number(coder, stream, node, place, CACHE_BITS, encoding)]) - 1, 0)
    else:
        pixel = _colour(coder, stream, numbers, pixel, west, north, northwest, channels, encoding)
    cache[_place(pixel)] = pixel + 1
    return pixel


def code(picture: np.ndarray, palette: np.ndarray, stream: np.ndarray, encoding: bool) -> int:
    """Codes all of `picture` to or from `stream`; the bytes written or read, -1 if there are too few.

    `picture` is uint8 [H, W, 1 or 3], contiguous, `stream` uint8; a decoder fills the one, an encoder the other.
    `palette` is all pixels that there are, sorted, int32, or empty for more than 256.
    """
    tables = (np.zeros(1 << bits, np.int64) for bits in (PAIR_BITS, LOW_BITS, HIGH_BITS))
    matches, cache = np.zeros(1 << MATCH_BITS, np.int32), np.zeros(1 << CACHE_BITS, np.int32)
    chances = (even_chances(count) for count in (_CACHE, 16, _FLAGS, _TREE, _NUMBERS))
    rows, guesses = np.zeros((3, picture.shape[1] + 2 * MARGIN), np.int32), np.zeros((2, GUESSES), np.int64)
    samples = picture.reshape(-1, picture.shape[2])
    return _code(samples, picture.shape[1], palette, stream, encoding, open_coder(stream, encoding), rows, *tables,
                 matches, cache, *chances, *guesses, _INVERSES)  # fmt: skip


@compiled(Array(uint8, 2), INTEGER, Array(int32, 1, readonly=True), Array(uint8, 1), INTEGER, _LONGS, Array(int32, 2),
          _LONGS, _LONGS, _LONGS, _INTS, _INTS, _CHANCES, _CHANCES, _CHANCES, _CHANCES, _CHANCES, _LONGS, _LONGS,
          _LONGS)  # fmt: skip
def _code(samples, width, palette, stream, encoding, coder, rows, pair_table, low_table, high_table, matches, cache,
          cached, in_cache, flags, tree, numbers, guesses, certainties, inverses):  # fmt: skip
    """What `code` does for rows of `width` samples [H * W, 1 or 3], in memory that it is given."""
    height, channels = samples.shape[0] // width, samples.shape[1]
    bits = 0
    while palette.size > 1 << bits:
        bits += 1
    history, length, length_bits, source = 0, 0, 0, int64(-1)
    for row in range(height):
        line, up, upup = rows[row % 3], rows[(row + 2) % 3], rows[(row + 1) % 3]
        for i in range(MARGIN):
            line[i] = up[MARGIN]
            line[MARGIN + width + i] = up[MARGIN + width - 1]
        for column in range(width):
            c, at = column + MARGIN, row * width + column
            pixel = _pixel(samples, at) if encoding else int64(0)
            pair, low, high, match = _hashes(line, up, upup, c)
            west, north, northwest, northeast = line[c - 1], up[c], up[c - 1], up[c + 1]
            if length == 0:
                source = int64(matches[match]) - 1
            matched = _pixel(samples, source) if source >= 0 else int64(-1)
            high_entry, low_entry, pair_entry = high_table[high], low_table[low], pair_table[pair]
            high_guess, low_guess = (high_entry >> _PIXEL) - 1, (low_entry >> _PIXEL) - 1
            pair_guess = (pair_entry >> _PIXEL) - 1
            pattern = (west == north) | (west == northwest) << 1 | (north == northeast) << 2 | (history & 1) << 3
            hit = -1
            if matched >= 0:
                place = _chance_of(0, length_bits, matched, west, north, pattern)
                if code_bit(coder, stream, flags, place, int64(matched == pixel), encoding):
                    hit, pixel = 0, matched
            if hit < 0:
                guesses[0], guesses[1], guesses[2], guesses[3] = matched, high_guess, low_guess, pair_guess
                guesses[4], guesses[5], guesses[6], guesses[7] = west, north, northeast, northwest
                certainties[1], certainties[2] = _certainty(high_entry), _certainty(low_entry)
                certainties[3] = _certainty(pair_entry)
                certainties[4:] = history
                hit, pixel = _guessed(coder, stream, flags, guesses, certainties, pixel, west, north, pattern, encoding)
            if hit < 0 and palette.size:
                pixel = _in_palette(coder, stream, tree, palette, bits, pixel, west, encoding)
            elif hit < 0:
                pixel = _new(coder, stream, cache, cached, in_cache, numbers, pixel, west, north, northwest, channels,
                             pattern, encoding)  # fmt: skip
            if source >= 0:
                length = length + 1 if matched == pixel else 0
                length_bits = min(length_bits + int64(length >> length_bits != 0), 15) if length else 0
                source += 1
            matches[match] = at + 1
            high_entry = _learned(high_entry, high_guess, pixel, inverses)
            high_table[high] = _learned(high_entry, matched, pixel, inverses)
            low_entry = _learned(low_entry, low_guess, pixel, inverses)
            low_table[low] = _learned(low_entry, high_guess, pixel, inverses)
            pair_table[pair] = _learned(pair_entry, pair_guess, pixel, inverses)
            history = history << 1 & 63 | (hit < 0 or hit > 1)
            line[c] = pixel
            if not encoding:
                for i in range(channels):
                    samples[at, i] = pixel >> 8 * (channels - 1 - i) & 255
            elif coder[3] + 256 > stream.size:
                return -1
        if coder[3] > stream.size + 8:
            return -1
    if encoding:
        stream[coder[3]] = coder[1] >> 24
        stream[coder[3] + 1] = coder[1] >> 16 & 255
        coder[3] += 2
    return coder[3]


def load() -> None:
    """Loads the compiled code, for who wants that done before the first call."""
    _code.load()
