"""Numba functions of an adaptive binary range coder (docs/repeats.md): one bit, or a number of several, at a time.

A function codes in both directions: with `encoding` it writes what it is given, else it reads. `coder` is int64 [4]:
low, high, what a decoder has read ahead, position in `stream`. `chances` is uint16 [count, 4], as by `even_chances`.
"""

import numpy as np
from numpy import int64

from tcm_jax.system.object_code import callee

MASK = 0xFFFFFFFF

_callee = callee(inline="never")


@callee(inline="always")  # a call takes longer than it
def code_bit(coder, stream, chances, index, bit, encoding):
    """Codes one bit with the chance of a 1, of 65536, that two averages of different speed give; returns it.

    A caller that encodes keeps room in `stream`: up to four bytes are written, unchecked.
    """
    fast, slow = int64(chances[index, 0]), int64(chances[index, 1])
    p = (fast + slow) >> 1
    low, high = coder[0], coder[1]
    size = high - low
    middle = low + (size >> 16) * p + (((size & 0xFFFF) * p) >> 16)
    if not encoding:
        bit = int64(coder[2] <= middle)
    seen = int64(chances[index, 2])
    quick, steady = min(seen, 4), min(seen, 7)
    chances[index, 2] = min(seen + 1, 7)
    if bit:
        high = middle
        chances[index, 0] = fast + ((65535 - fast) >> quick)
        chances[index, 1] = slow + ((65535 - slow) >> steady)
    else:
        low = middle + 1
        chances[index, 0] = fast - (fast >> quick)
        chances[index, 1] = slow - (slow >> steady)
    while (low ^ high) & 0xFF000000 == 0:
        if encoding:
            stream[coder[3]] = high >> 24
        else:
            coder[2] = (coder[2] << 8) & MASK
            if coder[3] < stream.size:
                coder[2] |= stream[coder[3]]
        coder[3] += 1
        low = (low << 8) & MASK
        high = (high << 8) & MASK | 255
    coder[0], coder[1] = low, high
    return bit


@_callee
def code_number(coder, stream, chances, value, bits, encoding):
    """Codes a number of so many bits, the highest first, with as many chances as it has values; returns it."""
    node = 1
    for shift in range(bits - 1, -1, -1):
        node = node << 1 | code_bit(coder, stream, chances, node, (value >> shift) & 1, encoding)
    return node - (1 << bits)


def even_chances(count: int) -> np.ndarray:
    """Even chances, uint16 [count, 4]: a quick and a steady average of 65536, how often they were seen, padding."""
    return np.tile(np.array([32768, 32768, 1, 0], np.uint16), (count, 1))


def open_coder(stream: np.ndarray, encoding: bool) -> np.ndarray:
    """State of the range coder: low, high, what a decoder has read ahead, position in the stream."""
    ahead = 0 if encoding else int.from_bytes(stream[:4].tobytes().ljust(4, b"\0"), "big")
    return np.array([0, MASK, ahead, 0 if encoding else 4], np.int64)
