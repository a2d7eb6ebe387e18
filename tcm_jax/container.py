"""The `.tcm` file around the range-coded latents; docs/format.md specifies every byte."""

import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from tcm_jax.errors import StreamError

MAGIC = b"\x89TCM"
VERSION = 1
_HAS_QUALITY = 1  # the one flag
_CHECKSUMS, _CORRECTIONS, _LATENTS = 1, 2, 3
_MAX_VARINT_BYTES = 5
MAX_GUARD_BAND = 0.03  # two bands reach no further than halfway (6 %) to the next boundary, 13 % away
_MAX_SIDE = 2**31 - 1
_LEAST_BYTES = 32
_TRUNCATED = "the .tcm file is truncated: it ends before its data does"


@dataclass(frozen=True, eq=False)
class Container:
    """What a `.tcm` file says.

    Attributes:
        width, height: size of the picture in pixels, 1 .. 2**31 - 1.
        model_id: the first 8 bytes of the SHA-256 that identifies the model.
        guard_band: relative half-width of the band around table boundaries, rounded to float32; 0 if the file is not
            portable, at most 0.03.
        corrections: for each slice the flat positions (row, column, channel order) of the symbols that lie in the
            band, int32 [n], strictly increasing. Their table is the larger one beside the boundary.
        checksums: `symbol_checksum` after z and after each slice; all but the last keep 16 bits.
        stream: the range-coded latents.
        quality: hundredths of the quality of a variable-rate model, 100 .. 10000; None for a model of one rate.
    """

    width: int
    height: int
    model_id: bytes
    guard_band: float
    corrections: tuple[np.ndarray, ...]
    checksums: tuple[int, ...]
    stream: bytes
    quality: int | None = None

    def __post_init__(self):
        *first, last = self.checksums
        object.__setattr__(self, "checksums", (*(value & 0xFFFF for value in first), last))
        object.__setattr__(self, "guard_band", float(np.float32(self.guard_band)))
        if len(self.corrections) != len(first):
            raise ValueError(f"{len(self.corrections)} slices of corrections, but checksums of z and {len(first)}")

    def checksum_matches(self, step: int, checksum: int) -> bool:
        """Whether the decoded symbols up to `step` (0 is z, i is slice i - 1) are those that were encoded."""
        bits = 0xFFFFFFFF if step == len(self.checksums) - 1 else 0xFFFF
        return self.checksums[step] == checksum & bits

    def positions(self, slice_index: int, symbols: int) -> np.ndarray:
        """Corrections of a slice that has `symbols` symbols; int32 [n].

        Raises:
            StreamError: a position lies outside the slice.
        """
        positions = self.corrections[slice_index]
        if positions.size and positions[-1] >= symbols:
            raise StreamError("the .tcm file is altered: a correction lies outside the picture")
        return positions


def symbol_checksum(symbols: np.ndarray, previous: int = 0) -> int:
    """CRC-32 of int32 symbols in C order as little-endian bytes, continued from `previous`; 32 bits."""
    return zlib.crc32(np.ascontiguousarray(symbols, "<i4").data, previous)


def pack(container: Container) -> bytes:
    """The file's bytes. Fixed cost: 42 bytes for a small picture with five slices, and the corrections."""
    sections = [(_CHECKSUMS, _pack_checksums(container.checksums))]
    if any(positions.size for positions in container.corrections):
        sections.append((_CORRECTIONS, _pack_corrections(container.corrections)))
    sections.append((_LATENTS, container.stream))
    data = bytearray(MAGIC)
    data += bytes([VERSION, 0 if container.quality is None else _HAS_QUALITY])
    data += _varint(container.width) + _varint(container.height)
    data += struct.pack("<8sf", container.model_id, container.guard_band)
    if container.quality is not None:
        data += struct.pack("<H", container.quality)
    for tag, payload in sections:
        data += bytes([tag]) + _varint(len(payload)) + payload
    return bytes(data + struct.pack("<I", zlib.crc32(data)))


def parse(data: bytes, max_pixels: int = 2**28) -> Container:
    """Read a file's bytes; nothing is allocated on the word of a length that the bytes do not bear out.

    Raises:
        StreamError: no `.tcm` file, a newer version, truncated, altered, or more than `max_pixels` pixels, counted
            after padding to multiples of 128.
    """
    data = bytes(data)
    if not data or data[:4] != MAGIC[: len(data)]:
        raise StreamError("this is not a .tcm file")
    if len(data) < _LEAST_BYTES:
        raise StreamError(_TRUNCATED)
    if data[4] != VERSION:
        raise StreamError(f"the .tcm file has format version {data[4]}, not {VERSION}; install a newer tcm_jax")
    body = data[:-4]
    if zlib.crc32(body) != struct.unpack("<I", data[-4:])[0]:
        raise StreamError(_TRUNCATED if _ends_early(data) else "the .tcm file is altered: its checksum does not match")
    if data[5] & ~_HAS_QUALITY:
        raise StreamError("the .tcm file uses features that this version lacks; install a newer tcm_jax")
    reader = _Reader(body, 6)
    width, height = reader.varint(), reader.varint()
    most = min(_check_size(width, height, max_pixels), _MAX_SIDE)
    model_id, guard_band = struct.unpack("<8sf", reader.take(12))
    if not 0 <= guard_band <= np.float32(MAX_GUARD_BAND):
        raise StreamError("the .tcm file is altered: its guard band is out of range")
    quality = _parse_quality(reader) if data[5] & _HAS_QUALITY else None
    sections = _sections(reader)
    if _CHECKSUMS not in sections or _LATENTS not in sections:
        raise StreamError("the .tcm file is altered: it lacks its checksums or its latents")
    checksums = _parse_checksums(sections[_CHECKSUMS])
    slices = len(checksums) - 1
    corrections = (np.empty(0, np.int32),) * slices
    if _CORRECTIONS in sections:
        corrections = _parse_corrections(sections[_CORRECTIONS], slices, most)
    return Container(width, height, model_id, guard_band, corrections, checksums, sections[_LATENTS], quality)


def _parse_quality(reader: "_Reader") -> int:
    (quality,) = struct.unpack("<H", reader.take(2))
    if not 100 <= quality <= 10_000:
        raise StreamError("the .tcm file is altered: its quality is out of range")
    return quality


def _check_size(width: int, height: int, max_pixels: int) -> int:
    """Pixels after padding to multiples of 128, to which memory is proportional; no slice has more symbols."""
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise StreamError(f"the .tcm file is altered: it declares a picture of {width}x{height} pixels")
    pixels = math.ceil(width / 128) * math.ceil(height / 128) * 128**2
    if pixels > max_pixels:
        raise StreamError(f"the picture has {width}x{height} pixels; padded, that is over the limit of {max_pixels}")
    return pixels


class _Reader:
    """Takes bytes off the front; running out of them is a StreamError."""

    def __init__(self, data: bytes, position: int):
        self.data, self.position = data, position

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.position:
            raise StreamError(_TRUNCATED)
        self.position += size
        return self.data[self.position - size : self.position]

    def varint(self) -> int:
        value = 0
        for i in range(_MAX_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return value
        raise StreamError("the .tcm file is altered: a number in it is too long")

    def section(self) -> tuple[int, bytes]:
        return self.take(1)[0], self.take(self.varint())


def _sections(reader: _Reader) -> dict[int, bytes]:
    sections = {}
    while reader.position < len(reader.data):
        tag, payload = reader.section()
        if tag not in (_CHECKSUMS, _CORRECTIONS, _LATENTS):
            raise StreamError(f"the .tcm file has a section {tag} unknown to this version; install a newer tcm_jax")
        if tag <= max(sections, default=0):
            raise StreamError("the .tcm file is altered: its sections are out of order")
        sections[tag] = payload
    return sections


def _ends_early(data: bytes) -> bool:
    """Whether a file whose checksum is wrong lacks bytes, by its own lengths."""
    reader = _Reader(data, 6)
    try:
        reader.varint(), reader.varint(), reader.take(14 if data[5] & _HAS_QUALITY else 12)
        tag = 0
        while tag != _LATENTS:
            tag, _ = reader.section()
        reader.take(4)
    except StreamError as error:
        return str(error) == _TRUNCATED
    return False


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _pack_checksums(checksums: tuple[int, ...]) -> bytes:
    *first, last = checksums
    return struct.pack(f"<{len(first)}HI", *first, last)


def _parse_checksums(payload: bytes) -> tuple[int, ...]:
    first = (len(payload) - 4) // 2
    if first < 0 or len(payload) != 2 * first + 4:
        raise StreamError("the .tcm file is altered: its checksums have an impossible length")
    return struct.unpack(f"<{first}HI", payload)


def _pack_corrections(corrections: tuple[np.ndarray, ...]) -> bytes:
    """One string of bits, highest first: for each slice its count, and if it is not 0 a Rice parameter and the gaps."""
    bits = []
    for positions in corrections:
        bits.append(_gamma_bits(positions.size + 1))
        if positions.size:
            gaps = np.diff(positions.astype(np.int64), prepend=-1) - 1
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


def _parse_corrections(payload: bytes, slices: int, most: int) -> tuple[np.ndarray, ...]:
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
