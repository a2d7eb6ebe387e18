"""The list of corrections in a `.tcm` file: Rice codes of the gaps between positions (docs/format.md)."""

import math

import numpy as np

from tcm_jax.errors import StreamError


def pack_corrections(corrections: tuple[np.ndarray, ...]) -> bytes:
    """Flat positions of every slice, int32 [n] increasing, to one string of bits, the highest of a byte first.

    For each slice its count, and if it is not 0 a Rice parameter and the gaps.
    """
    bits = []
    for positions in corrections:
        bits.append(_gamma_bits(positions.size + 1))
        if positions.size:
            gaps: np.ndarray = np.diff(positions.astype(np.int64), prepend=-1) - 1
            k = min(range(32), key=lambda k: int(np.sum(gaps >> k)) + k * gaps.size)
            bits.append(f"{k:05b}")
            bits += ["0" * (gap >> k) + f"{gap & (1 << k) - 1 | 1 << k:b}" for gap in gaps.tolist()]
    text = "".join(bits)
    size = math.ceil(len(text) / 8)
    return int(text.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def _gamma_bits(value: int) -> str:
    """Elias gamma code of a positive integer."""
    return "0" * (value.bit_length() - 1) + f"{value:b}"


class _Bits:
    """Takes bits off a byte string, the highest of a byte first."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 0

    def left(self) -> int:
        return 8 * len(self.data) - self.position

    def take(self, count: int) -> int:
        if count > self.left():
            raise StreamError("the .tcm file is altered: its corrections end early")
        first, self.position = self.position, self.position + count
        window = self.data[first >> 3 : (self.position + 7) >> 3]
        return (int.from_bytes(window, "big") >> -self.position % 8) & ((1 << count) - 1)

    def zeros(self) -> int:
        """Length of the run of zeros before the next one; takes both."""
        start = self.position
        while not (window := self.take(max(1, min(32, self.left())))):
            pass
        self.position -= window.bit_length() - 1  # what follows the one was not ours to take
        return self.position - 1 - start


def parse_corrections(payload: bytes, slices: int, most: int) -> tuple[np.ndarray, ...]:
    """Inverse of `pack_corrections`; positions are below `most`. Raises StreamError."""
    bits = _Bits(payload)
    corrections = tuple(_parse_positions(bits, most) for _ in range(slices))
    if bits.left() > 7 or bits.take(bits.left()):
        raise StreamError("the .tcm file is altered: its corrections end late")
    return corrections


def _parse_positions(bits: _Bits, most: int) -> np.ndarray:
    length = bits.zeros()
    count = (1 << length | bits.take(length)) - 1
    if count == 0:
        return np.empty(0, np.int32)
    k = bits.take(5)
    if count * (k + 1) > bits.left():
        raise StreamError("the .tcm file is altered: its corrections end early")
    positions = np.empty(count, np.int32)
    at = -1
    for i in range(count):
        at += (bits.zeros() << k | bits.take(k)) + 1
        if at >= most:
            raise StreamError("the .tcm file is altered: a correction lies outside the picture")
        positions[i] = at
    return positions
