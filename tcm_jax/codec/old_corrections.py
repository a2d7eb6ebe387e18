"""The list of corrections in files that lack sides: Rice codes of the gaps between positions (docs/format.md)."""

import numpy as np

from tcm_jax.errors import StreamError


class _Bits:
    """Reads bits off a byte string, the highest of a byte first."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 0

    def left(self) -> int:
        return 8 * len(self.data) - self.position

    def read(self, count: int) -> int:
        if count > self.left():
            raise StreamError("the .tcm file is altered: its corrections end early")
        first, self.position = self.position, self.position + count
        window = self.data[first >> 3 : (self.position + 7) >> 3]
        return (int.from_bytes(window, "big") >> -self.position % 8) & ((1 << count) - 1)

    def zeros(self) -> int:
        """Length of the run of zeros before the next one; reads both."""
        start = self.position
        while not (window := self.read(max(1, min(32, self.left())))):
            pass
        self.position -= window.bit_length() - 1  # what follows the one was not ours to read
        return self.position - 1 - start


def parse_corrections(payload: bytes, slices: int, most: int) -> tuple[np.ndarray, ...]:
    """Flat positions of each of `slices`, int32 [n] increasing, below `most`. Raises StreamError.

    One string of bits, the highest of a byte first: for each slice the Elias gamma code of one more than its count, and
    if that is not 0 a Rice parameter of five bits, and the Rice codes of the gaps.
    """
    bits = _Bits(payload)
    corrections = tuple(_parse_positions(bits, most) for _ in range(slices))
    if bits.left() > 7 or bits.read(bits.left()):
        raise StreamError("the .tcm file is altered: its corrections end late")
    return corrections


def listed_positions(positions: np.ndarray, symbols: int) -> np.ndarray:
    """The listed positions, int32 [n], of a slice of `symbols` symbols. Raises StreamError if one lies outside it."""
    if positions.size and positions[-1] >= symbols:
        raise StreamError("the .tcm file is altered: a correction lies outside the picture")
    return positions


def _parse_positions(bits: _Bits, most: int) -> np.ndarray:
    length = bits.zeros()
    count = (1 << length | bits.read(length)) - 1
    if count == 0:
        return np.empty(0, np.int32)
    k = bits.read(5)
    if count * (k + 1) > bits.left():
        raise StreamError("the .tcm file is altered: its corrections end early")
    positions = np.empty(count, np.int32)
    at = -1
    for i in range(count):
        at += (bits.zeros() << k | bits.read(k)) + 1
        if at >= most:
            raise StreamError("the .tcm file is altered: a correction lies outside the picture")
        positions[i] = at
    return positions
