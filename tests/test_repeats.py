"""docs/repeats.md is enough for a decoder: the one below is written from it alone, and shares no code with ours."""

from collections import defaultdict

import numpy as np
import pytest
from conftest import photograph

from tcm_jax.codec.residual.layer import PATTERNS, decode_layer, encode_layer
from tcm_jax.entropy import pattern_coder

M32 = 0xFFFFFFFF


class Decisions:
    """The binary coder; a chance is a list [a, b, n] under any key."""

    def __init__(self, stream: bytes):
        self.stream, self.read = stream, 0
        self.low, self.high, self.code = 0, M32, 0
        for _ in range(4):
            self.code = self.code << 8 | self.byte()
        self.chances = defaultdict(lambda: [32768, 32768, 1])

    def byte(self) -> int:
        self.read += 1
        return self.stream[self.read - 1] if self.read <= len(self.stream) else 0

    def one(self, *key) -> int:
        chance = self.chances[key]
        a, b, n = chance
        middle = self.low + ((self.high - self.low) * ((a + b) >> 1) >> 16)
        bit = int(self.code <= middle)
        if bit:
            self.high = middle
            chance[:] = a + ((65535 - a) >> min(n, 4)), b + ((65535 - b) >> min(n, 7)), min(n + 1, 7)
        else:
            self.low = middle + 1
            chance[:] = a - (a >> min(n, 4)), b - (b >> min(n, 7)), min(n + 1, 7)
        while self.low >> 24 == self.high >> 24:
            self.low = self.low << 8 & M32
            self.high = self.high << 8 & M32 | 255
            self.code = self.code << 8 & M32 | self.byte()
        return bit

    def tree(self, bits: int, *key) -> int:
        node = 1
        for _ in range(bits):
            node = node << 1 | self.one(*key, node)
        return node - (1 << bits)

    def difference(self, *key) -> int:
        if self.one(*key, 0):
            return 0
        negative, bits, size = self.one(*key, 1), 1, 1
        while bits < 8 and self.one(*key, 1 + bits):
            bits += 1
        for j in range(bits - 2, -1, -1):
            k = 1 if bits == 2 else min(size, 3)
            size = size << 1 | self.one(*key, 10 + 4 * bits + k if j >= bits - 3 else 46 + j)
        return -size if negative else size


class Grid:
    """Pixels decoded so far, and what lies beside them."""

    def __init__(self, width: int):
        self.width, self.pixels = width, []

    def at(self, row: int, column: int) -> int:
        if column < 0:
            row, column = row - 1, 0
        elif column >= self.width:
            row, column = row - 1, self.width - 1
        return self.pixels[row * self.width + column] if row >= 0 else 0


def mix(x: int, k: int) -> int:
    x &= M32
    return (x ^ x >> 15) * k & M32


def places(at, row: int, column: int) -> tuple[int, int, int, int]:
    w = [0] + [at(row, column - i) for i in range(1, 7)]
    n = {i: at(row - 1, column + i) for i in range(-2, 4)}
    nn = {i: at(row - 2, column + i) for i in range(-1, 2)}
    p = mix(w[1] * 0x3C6EF372 + n[0] * 0x1B873593, 0x2C1B3C6D)
    q = w[1] * 0x2545F491 + n[0] * 0x1B873593 + n[-1] * 0x27D4EB2F + n[1] * 0x165667B1
    h = q * 0x85EBCA6B + w[2] * 0x45D9F3B + w[3] * 0x119DE1F3 + nn[0] * 0x344B5409 + n[2] * 0x1C69B3F5
    h = mix(h + n[-2] * 0xE2AD7A9 + nn[1] * 0x1E35A7BD, 0x297A2D39)
    m = h * 0x85EBCA6B + w[4] * 0x45D9F3B + w[5] * 0x119DE1F3 + w[6] * 0x344B5409 + n[3] * 0x1C69B3F5
    return mix(m + nn[-1] * 0xE2AD7A9, 0x297A2D39) >> 16, h >> 14, mix(q, 0x2C1B3C6D) >> 16, p >> 18


def learn(entry: list, guess: int | None, pixel: int) -> None:
    target = 65535 if guess == pixel else 0
    entry[1] += (target - entry[1]) * 2 // (2 * entry[2] + 3)
    entry[2] = min(entry[2] + 1, 30)
    if entry[2] == 1 and guess is None:
        entry[0], entry[1] = pixel, 49152
    elif entry[1] < 32768:
        entry[:] = pixel, 65535 - entry[1], min(entry[2], 4)


def by_channels(coder: Decisions, west: int, north: int, corner: int, channels: int) -> int:
    pixel = moved = 0
    for turn, shift in enumerate((8, 16, 0) if channels == 3 else (0,)):
        w, n, v = (x >> shift & 255 for x in (west, north, corner))
        median = sorted((w, n, w + n - v))[1]
        level = min((abs(w - v) + abs(n - v) + abs(moved)).bit_length(), 8)
        sample = (min(max(median + moved, 0), 255) + coder.difference("channel", turn, level)) & 255
        moved = sample - median if turn == 0 else moved
        pixel |= sample << shift
    return pixel


def varint(data: bytes) -> tuple[int, bytes]:
    value, i = data[0] & 127, 0
    while data[i] > 127:
        i += 1
        value |= (data[i] & 127) << 7 * i
    return value, data[i + 1 :]


def decode(data: bytes, height: int, width: int, channels: int) -> np.ndarray:
    """What follows the layer's CRC to uint8 [H, W, channels]."""
    count, data = varint(data)
    colours = [0]
    for _ in range(count):
        gap, data = varint(data)
        colours.append(colours[-1] + gap)
    colours, coder, grid = colours[1:], Decisions(data), Grid(width)
    tables = [defaultdict(lambda: [None, 0, 0]) for _ in range(3)]  # of H, L, P
    matches, cache = {}, {}
    history, length, source = 0, 0, None
    for number in range(height * width):
        row, column = divmod(number, width)
        match, *hashed = places(grid.at, row, column)
        entries = [table[place] for table, place in zip(tables, hashed, strict=True)]
        w, n, ne, nw = (grid.at(row + i, column + j) for i, j in ((0, -1), (-1, 0), (-1, 1), (-1, -1)))
        source = matches.get(match) if length == 0 else source
        guesses = [None if source is None else grid.pixels[source], *(e[0] for e in entries), w, n, ne, nw]
        pattern = w == n, w == nw, n == ne, history & 1
        pixel, hit = None, None
        for i, guess in enumerate(guesses):
            if guess is None or guess in guesses[:i]:
                continue
            sure = min(length.bit_length(), 15) if i == 0 else history
            if 1 <= i <= 3:
                sure = min(entries[i - 1][2], 4), entries[i - 1][1] >> 12
            if coder.one("guess", i, sure, guess == w, guess == n, pattern):
                pixel, hit = guess, i
                break
        if hit is None and colours:
            index = coder.tree((len(colours) - 1).bit_length(), "colour", (w * 0x2545F491 & M32) >> 24)
            pixel = colours[min(index, len(colours) - 1)]
        elif hit is None:
            if coder.one("cached", pattern):
                pixel = cache.get(coder.tree(10, "place", (w * 0x2545F491 & M32) >> 26), 0)
            else:
                pixel = by_channels(coder, w, n, nw, channels)
            cache[(pixel * 0x1E35A7BD & M32) >> 22] = pixel
        if source is not None:
            length = length + 1 if guesses[0] == pixel else 0
            source += 1
        matches[match] = number
        for entry, guess in zip(entries, guesses[1:4], strict=True):
            learn(entry, guess, pixel)
        history = (history << 1 & 63) + (hit not in (0, 1))
        learn(entries[0], guesses[0], pixel)
        learn(entries[1], guesses[1], pixel)
        grid.pixels.append(pixel)
    assert coder.read == len(coder.stream) + 2
    shifts = (16, 8, 0) if channels == 3 else (0,)
    return np.array([[p >> s & 255 for s in shifts] for p in grid.pixels], np.uint8).reshape(height, width, channels)


def few_colours() -> np.ndarray:
    rng = np.random.default_rng(0)
    glyphs = rng.choice(rng.integers(0, 256, (7, 3)), (8, 6, 40)).reshape(-1, 8, 6, 3)
    picture = glyphs[rng.integers(0, 9, (6, 9))].transpose(0, 2, 1, 3, 4).reshape(48, 54, 3).astype(np.uint8)
    picture[rng.random((48, 54)) < 0.02] = rng.integers(0, 256, 3)
    return picture


def many_colours() -> np.ndarray:
    picture = np.repeat(np.repeat(photograph(24, 40), 2, axis=0), 2, axis=1)
    picture[10:30, 20:60] = picture[11, 21]
    picture[30:44, 4:60] = few_colours()[:14, :56][:, :54].repeat(2, axis=1)[:, :56]
    return picture


@pytest.mark.parametrize("form", ["rgb", "grey"])
@pytest.mark.parametrize("make", [few_colours, many_colours])
def test_a_decoder_of_the_page(make, form):
    picture = make() if form == "rgb" else make()[..., :1]
    data = encode_layer(picture if form == "rgb" else picture[..., 0]).data
    assert data[0] == PATTERNS
    assert (data[5] == 0) == (make is many_colours and form == "rgb")  # more than 256 colours
    np.testing.assert_array_equal(decode(data[5:], *picture.shape), picture)


def test_products_by_the_inverses_are_the_quotients():
    numbers = np.arange(1 << 18)
    for divisor, inverse in zip(range(3, 65, 2), pattern_coder._INVERSES, strict=True):
        assert np.array_equal(numbers * inverse >> 32, numbers // divisor)


@pytest.mark.parametrize(("colours", "channels"), [(16, ()), (60, ()), (16, (3,)), (200, (3,))])
def test_few_colours_are_coded_as_such_though_none_repeats(colours, channels):
    """Random pixels: their numbers take the logarithm of how many there are."""
    rng = np.random.default_rng(0)
    palette = rng.permutation(256)[:colours].astype(np.uint8)
    if channels:
        palette = np.stack([palette, rng.permutation(palette), rng.permutation(palette)], axis=-1)
    picture = palette[rng.integers(0, colours, (200, 200))]
    layer = encode_layer(picture)
    np.testing.assert_array_equal(decode_layer(layer.data, None, picture.shape), picture)
    assert len(layer.data) < 1.2 * picture.shape[0] * picture.shape[1] * np.log2(colours) / 8 + 1000
