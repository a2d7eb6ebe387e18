"""PNGs of every colour type, depth, filter and interlacing, written plainly from the standard, with any chunks."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write(
    samples: np.ndarray, depth: int, colour_type: int, chunks: Sequence[bytes] = (), interlaced: bool = False,
    filters: int = 0,
) -> bytes:  # fmt: skip
    """A PNG of integer `samples` [H, W, channels]; `chunks` stand before its pixels, `filters` is a seed."""
    height, width, channels = samples.shape
    rng, packed = np.random.default_rng(filters), b""
    for left, top, step_x, step_y in PASSES if interlaced else ((0, 0, 1, 1),):
        part = samples[top::step_y, left::step_x]
        above = None
        for row in part if part.size else ():
            line = _pack(row, depth)
            above = np.zeros_like(line) if above is None else above
            packed += _filtered(line, above, max(1, depth * channels // 8), int(rng.integers(5)) if filters else 0)
            above = line
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(packed)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _pack(row: np.ndarray, depth: int) -> np.ndarray:
    if depth == 16:
        return row.astype(">u2").reshape(-1).view(np.uint8)
    bits = (row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8))


def _filtered(line: np.ndarray, above: np.ndarray, pixel: int, kind: int) -> bytes:
    left = np.concatenate([np.zeros(pixel, np.uint8), line])[: len(line)].astype(int)
    corner = np.concatenate([np.zeros(pixel, np.uint8), above])[: len(line)].astype(int)
    up = above.astype(int)
    distances = np.abs(np.stack([up - corner, left - corner, left + up - 2 * corner]))
    paeth = np.choose(distances.argmin(0), [left, up, corner])
    predicted = (0, left, up, (left + up) // 2, paeth)[kind]
    return bytes([kind]) + ((line.astype(int) - predicted) % 256).astype(np.uint8).tobytes()
