"""Damaged and forged `.tcm` files, and what became of them."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from unittest import mock

import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.codec.container import Container, parse
from tcm_jax.codec.residual import layer
from tcm_jax.entropy import coders
from tcm_jax.errors import TcmError

HEADER = 40  # bytes: everything before section 2 of a small file
KINDS = 12


def damage(data: bytes, i: int, rng: np.random.Generator, other: bytes = b"") -> bytes:
    """File number `i` made from `data`: kinds of damage take turns.

    Truncation, a header byte, flipped bits, stretches lost, doubled or overwritten; a section lost, doubled, emptied,
    filled anew, moved, or taken from `other`.
    """
    kind, turn, at = i % KINDS, i // KINDS, int(rng.integers(len(data)))
    damaged = bytearray(data)
    if kind == 0:
        return data[: truncation(len(data), turn, at)]
    if kind in (1, 2):
        damaged[turn % HEADER] = rng.choice([0, 1, 2, 63, 64, 127, 128, 129, 255, rng.integers(256)])
    elif kind < 6:
        for bit in rng.integers(8 * len(data), size=rng.integers(1, 9)):
            damaged[bit // 8] ^= 1 << bit % 8
    elif kind < 8:
        stretch = rng.bytes(int(rng.integers(20))) if kind == 6 else damaged[at : at + 9] * int(rng.integers(2)) * 2
        damaged[at : at + int(rng.integers(20))] = stretch
    else:
        return rearranged(data, kind, rng, other or data)
    return bytes(damaged)


def rearranged(data: bytes, kind: int, rng: np.random.Generator, other: bytes) -> bytes:
    """One section changed as a whole, with a length that is right, but for one in four."""
    head, parts = sections(data)
    at = int(rng.integers(len(parts)))
    tag, payload = parts[at]
    if kind == 8:
        parts[at : at + 1] = [] if rng.integers(2) else [(tag, payload)] * 2
    elif kind == 9:
        parts[at] = (tag, rng.bytes(int(rng.integers(len(payload) + 9))) if rng.integers(4) else b"")
    elif kind == 10:
        parts[at] = (int(rng.integers(9)), payload)
    else:
        taken = sections(other)[1]
        parts.append(taken[int(rng.integers(len(taken)))])
        parts.sort(key=lambda part: part[0])
    body = head
    for tag, payload in parts:
        length = len(payload) if rng.integers(4) else int(rng.integers(2 * len(payload) + 2))
        body += bytes([tag]) + varint(length) + payload
    return body + data[-4:]


def sections(data: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """(header, sections) of an intact file."""
    position = 6
    for _ in range(2):
        while data[position] > 127:
            position += 1
        position += 1
    position += 12 + 2 * (data[5] & 1) + (data[5] >> 1 & 1)
    head, parts = data[:position], []
    while position < len(data) - 4:
        tag, length, shift = data[position], 0, 0
        while True:
            position += 1
            length |= (data[position] & 127) << shift
            shift += 7
            if data[position] < 128:
                break
        parts.append((tag, data[position + 1 : position + 1 + length]))
        position += 1 + length
    return head, parts


def varint(value: int) -> bytes:
    """Seven bits a byte, as in docs/format.md."""
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def truncation(length: int, i: int, anywhere: int) -> int:
    """Inside the header byte by byte, then by turns near the end and anywhere."""
    if i < HEADER:
        return i
    return length - 1 - i % 9 if i % 2 else anywhere


def sealed(data: bytes) -> bytes:
    """With the right checksum in its last four bytes, as a forger writes it."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def outcome(codec: Codec, data: bytes, max_pixels: int) -> str:
    """The name of the TcmError, or "picture"; fails for anything else, and for a picture of another size."""
    try:
        picture = codec.decode(data, max_pixels)
    except TcmError as error:
        assert "\n" not in str(error)
        return type(error).__name__
    file = parse(data)
    assert picture.colour.shape == (file.height, file.width) + (() if file.grey else (3,))
    assert picture.colour.dtype == np.uint8
    assert picture.alpha is None or picture.alpha.shape == (file.height, file.width)
    return "picture"


@contextlib.contextmanager
def obliging_decoder() -> Iterator[None]:
    """Takes whatever is decoded, as if the forger had computed the checksums and the stream's end from it."""
    real = coders.decoder

    def endless(*args):
        decoder = real(*args)
        decoder.finish = lambda: None
        return decoder

    with (
        mock.patch.object(coders, "decoder", endless),
        mock.patch.object(Container, "checksum_matches", lambda *_: True),
        mock.patch.object(layer, "_matches", lambda *_: True),
    ):
        yield
