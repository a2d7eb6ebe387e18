"""One bit for each of some keys that a reader asks for, without the keys: a ribbon (docs/format.md, section 2).

Every key has eight of the bytes and a mask over them, both by its hash, and its bit is the parity of what the mask
leaves. The writer solves the linear equations: about as many bits as keys (Dillinger and Walzer, arXiv:2103.02515).
"""

import numpy as np

_SPAN = 8  # bytes that a mask covers


def pack_sides(keys: np.ndarray, sides: np.ndarray) -> bytes:
    """Bytes that give each of `keys` (int64 [n]) its side (bool [n]): the fewest of those tried.

    Raises ValueError if a key has both sides.
    """
    size = -(-(keys.size + keys.size // 32 + 2) // 8) if keys.size else 0  # fewer often take a second try
    while (found := _solved(keys, sides, size)) is None:
        if size > keys.size + _SPAN:
            raise ValueError("the keys are not distinct")
        size += 1 + size // 64
    return found


def read_sides(packed: bytes, keys: np.ndarray) -> np.ndarray:
    """The sides of `keys` (int64 [n]), bool [n]; of keys that were not packed, anything."""
    if not packed:
        return np.zeros(keys.size, bool)
    starts, masks = _places(keys, len(packed))
    padded = packed + bytes(_SPAN)
    spans = np.ndarray(len(packed), "<u8", padded, strides=(1,))[starts] & masks
    for shift in (32, 16, 8, 4, 2, 1):
        spans ^= spans >> np.uint64(shift)
    return (spans & np.uint64(1)).astype(bool)


def _places(keys: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First byte and mask (bit 0 is the lowest of that byte) of each key."""
    keys, span = keys.astype(np.uint64), min(size, _SPAN)
    starts = (_mixed(2 * keys) >> np.uint64(32)) * np.uint64(size - span + 1) >> np.uint64(32)
    return starts.astype(np.int64), _mixed(2 * keys + np.uint64(1)) >> np.uint64(64 - 8 * span)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Mixes uint64 keys by SplitMix64's output function."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def _solved(keys: np.ndarray, sides: np.ndarray, size: int) -> bytes | None:
    """`size` bytes that satisfy the equations, or None if none do: elimination along the band of the masks."""
    starts, masks = _places(keys, size)
    rows, values = [0] * (8 * size), [0] * (8 * size)  # at each bit an equation that begins there, or 0
    order = np.argsort(starts, kind="stable")
    for at, row, value in zip(8 * starts[order], masks[order].tolist(), sides[order].tolist(), strict=True):
        while row:
            skipped = (row & -row).bit_length() - 1
            row, at = row >> skipped, at + skipped
            if not rows[at]:
                rows[at], values[at] = row, value
                break
            row, value = row ^ rows[at], value ^ values[at]
        else:
            if value:
                return None
    solution, span = np.zeros(8 * size, np.uint8), 0  # span: the 64 bits from the present one on
    for at in reversed(range(8 * size)):
        span = span << 1 & (1 << 8 * _SPAN) - 1
        span |= values[at] ^ (rows[at] & span).bit_count() & 1
        solution[at] = span & 1
    return np.packbits(solution, bitorder="little").tobytes()
