"""A range encoder in unbounded integers, without carries to propagate: slow, short, and independent of the kernels."""

import bisect

import numpy as np

from tcm_jax.entropy.range_tables import RangeTables


class BigIntegerEncoder:
    def __init__(self, tables: RangeTables):
        self.tables = tables
        self.low, self.size, self.shifts = 0, 1 << 32, 0

    def narrow(self, lower: int, upper: int, precision: int) -> None:
        first, end = self.size * lower >> precision, self.size * upper >> precision
        self.low, self.size = self.low + first, end - first
        if self.size <= 1 << 16:
            self.low, self.size, self.shifts = self.low << 16, self.size << 16, self.shifts + 1

    def cdf(self, index: int) -> list[int]:
        start = self.tables.starts[index]
        return self.tables.lookup[start : start + self.tables.sizes[index] + 2].tolist()

    def encode(self, index: int, symbol: int) -> None:
        cdf = self.cdf(index)
        value, escape = symbol - int(self.tables.offsets[index]), len(cdf) - 2
        if 0 <= value < escape:
            self.narrow(cdf[value], cdf[value + 1], 16)
            return
        self.narrow(cdf[escape], cdf[escape + 1], 16)
        gamma = f"{-value if value < 0 else value - escape + 1:b}"
        for bit in "0" * (len(gamma) - 1) + gamma + ("1" if value < 0 else "0"):
            self.narrow(int(bit), int(bit) + 1, 1)

    def straddles(self) -> bool:
        """Whether a carry into the bytes before the 32-bit window is undecided."""
        return self.low >> 32 != (self.low + self.size - 1) >> 32

    def straddling_symbol(self, index: int) -> int | None:
        """The symbol that leaves the carry undecided, if that is a regular one."""
        cdf = self.cdf(index)
        target = ((((self.low >> 32) + 1 << 32) - self.low + 1 << 16) - 1) // self.size
        value = bisect.bisect_right(cdf, target) - 1
        return value + int(self.tables.offsets[index]) if value < len(cdf) - 2 else None

    def finish(self) -> bytes:
        window, last = self.low % (1 << 32), self.low % (1 << 32) + self.size - 1
        head = self.low >> 32
        if self.straddles():
            return (head + 1).to_bytes(2 * self.shifts, "big").rstrip(b"\0")
        stream = head.to_bytes(2 * self.shifts, "big")
        if window == 0:
            return stream
        for bits in (24, 16):
            rounded = -(-window >> bits)
            if rounded <= last >> bits:
                tail = rounded.to_bytes(4 - bits // 8, "big")
                return stream + (tail.rstrip(b"\0") or tail[:1])
        raise AssertionError("the size never falls to 2**16")


def oracle(tables: RangeTables, indexes, symbols) -> bytes:
    encoder = BigIntegerEncoder(tables)
    for index, symbol in zip(np.ravel(indexes).tolist(), np.ravel(symbols).tolist(), strict=True):
        encoder.encode(index, symbol)
    return encoder.finish()


def zeros_dropped(tables: RangeTables, indexes, symbols) -> int:
    """How many zero bytes at its end a stream leaves to the decoder to imagine."""
    encoder = BigIntegerEncoder(tables)
    for index, symbol in zip(np.ravel(indexes).tolist(), np.ravel(symbols).tolist(), strict=True):
        encoder.encode(index, symbol)
    return max(2 * encoder.shifts + 4 - len(encoder.finish()), 0)


def straddling(rng: np.random.Generator, tables: RangeTables, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols chosen so that carries stay undecided as long as possible, which chance does once in 2**16 times."""
    encoder = BigIntegerEncoder(tables)
    indexes = rng.integers(0, len(tables), length, dtype=np.int32)
    symbols = np.empty(length, np.int32)
    for i, index in enumerate(indexes.tolist()):
        held = encoder.straddling_symbol(index) if encoder.straddles() and rng.random() < 0.99 else None
        low = int(tables.offsets[index])
        symbols[i] = rng.integers(low, low + tables.sizes[index] + 1) if held is None else held
        encoder.encode(index, int(symbols[i]))
    return indexes, symbols


def random_tables(rng: np.random.Generator, sizes) -> RangeTables:
    """Tables with the given numbers of regular symbols, flat or steep, at random offsets."""
    rows, offsets = [], []
    for size in sizes:
        weights = rng.dirichlet(np.full(size + 1, rng.choice([0.05, 1.0, 50.0])))
        frequencies = 1 + np.floor(weights * (65536 - size - 1)).astype(np.int64)
        frequencies[rng.integers(size + 1)] += 65536 - frequencies.sum()
        rows.append(np.concatenate([[-16, 0], np.cumsum(frequencies)]))
        offsets.append(rng.integers(-size - 3, 4))
    return RangeTables(np.concatenate(rows).astype(np.int32), np.array(offsets, np.int32))


def random_symbols(rng: np.random.Generator, tables: RangeTables, length: int, wild: float = 0.02):
    """Indexes and symbols: uniform over the regular ones, some of them anywhere up to +-2**20."""
    indexes = rng.integers(0, len(tables), length, dtype=np.int32)
    symbols = tables.offsets[indexes] + rng.integers(0, tables.sizes[indexes] + 1, length)
    far = rng.integers(-(2**20), 2**20, length, endpoint=True) >> rng.integers(0, 20, length)
    return indexes, np.where(rng.random(length) < wild, far, symbols).astype(np.int32)
