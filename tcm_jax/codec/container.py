"""The `.tcm` file around the range-coded latents; docs/format.md specifies every byte."""

import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from tcm_jax.codec.byte_reader import ByteReader, counted, varint
from tcm_jax.codec.old_corrections import parse_corrections
from tcm_jax.errors import StreamError
from tcm_jax.images.limits import MAX_PIXELS
from tcm_jax.model.config import PAD_MULTIPLE, padded_size

MAGIC = b"\x89TCM"
VERSION = 1
_HAS_QUALITY, _HAS_TILES, _GREY, _HAS_SIDES, _HAS_LAYER = 1, 2, 4, 8, 16  # flags
_CHECKSUMS, _SIDES, _LATENTS, _ALPHA, _ICC, _EXIF, _LAYER = range(1, 8)  # sections
MIN_TILE, MAX_TILE = 512, 8192
MIN_QUALITY, MAX_QUALITY = 100, 10_000  # hundredths
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
        checksums: `streams.symbol_checksum` after z and after each slice; all but the last keep 16 bits. Empty, as
            the stream then is, in a file without latents, whose layer holds all of the picture.
        stream: the range-coded latents.
        quality: hundredths of the quality of a variable-rate model, 100 .. 10000; None for a model of one rate.
        tile: side in pixels of the tiles of the entropy model, a multiple of 128 in 512 .. 8192; 0: one piece.
        grey: whether the picture has one channel.
        alpha, icc, exif: as `alpha_and_metadata` packs them; empty if there are none.
        sides: on which side of the boundary scales within two bands lie, as `ribbon.pack_sides` gives it for their
            places in all of y and of the detail slices; None if the file is not portable, or lists corrections.
        layer: what the latents miss, as `residual.layer` packs it; empty if there is none.
        corrections: what some files that are read, but no longer written, have instead of sides, or empty: for each
            slice the flat positions (row, column, channel order) of the symbols in the band, int32 [n], strictly
            increasing.
    """

    width: int
    height: int
    model_id: bytes
    guard_band: float
    checksums: tuple[int, ...]
    stream: bytes
    quality: int | None = None
    tile: int = 0
    grey: bool = False
    alpha: bytes = b""
    icc: bytes = b""
    exif: bytes = b""
    sides: bytes | None = None
    layer: bytes = b""
    corrections: tuple[np.ndarray, ...] = ()

    def __post_init__(self):
        first, last = self.checksums[:-1], self.checksums[-1:]
        object.__setattr__(self, "checksums", (*(value & 0xFFFF for value in first), *last))
        object.__setattr__(self, "guard_band", float(np.float32(self.guard_band)))
        if len(self.corrections) not in (0, len(first)):
            raise ValueError(f"{len(self.corrections)} slices of corrections, but checksums of z and {len(first)}")
        if not (self.checksums or self.layer):
            raise ValueError("neither latents nor a layer")

    @property
    def has_latents(self) -> bool:
        """Whether the network has a part in the picture."""
        return bool(self.checksums)

    @property
    def slices(self) -> int:
        """How many slices follow z in the stream; each field of a checkerboard counts as one."""
        return max(len(self.checksums) - 1, 0)

    def checksum_matches(self, step: int, checksum: int) -> bool:
        """Whether the decoded symbols up to `step` (0 is z, i is slice i - 1) are those that were encoded."""
        bits = 0xFFFFFFFF if step == self.slices else 0xFFFF
        return self.checksums[step] == checksum & bits


def pack(container: Container) -> bytes:
    """The bytes of a file. Fixed cost: 42 bytes for a small picture with five slices.

    Raises ValueError for one that lists corrections.
    """
    if container.corrections:
        raise ValueError("lists of corrections are read, but no longer written")
    data = _head(container)
    for tag, payload in _payloads(container):
        data += bytes([tag]) + counted(payload)
    return bytes(data + struct.pack("<I", zlib.crc32(data)))


def section_sizes(data: bytes) -> dict[str, int]:
    """Bytes of each part of a file that `parse` can read, headings of sections counted with the header."""
    near = "sides" if data[5] & _HAS_SIDES else "corrections"
    names = {_CHECKSUMS: "checksums", _SIDES: near, _LATENTS: "latents", _ALPHA: "alpha",
             _ICC: "icc", _EXIF: "exif", _LAYER: "layer"}  # fmt: skip
    reader = ByteReader(data[:-4], 6, _TRUNCATED)
    _skip_head(reader, data[5])
    sizes = {names[tag]: len(payload) for tag, payload in _sections(reader).items()}
    return {"header": len(data) - sum(sizes.values())} | sizes


def _payloads(container: Container) -> list[tuple[int, bytes]]:
    sections = [(_CHECKSUMS, _pack_checksums(container.checksums))] if container.has_latents else []
    if container.sides:
        sections.append((_SIDES, container.sides))
    if container.has_latents:
        sections.append((_LATENTS, container.stream))
    extras = ((_ALPHA, container.alpha), (_ICC, container.icc), (_EXIF, container.exif), (_LAYER, container.layer))
    return sections + [(tag, payload) for tag, payload in extras if payload]


def _head(container: Container) -> bytearray:
    data = bytearray(MAGIC)
    data += bytes([VERSION, _flags(container)])
    data += varint(container.width) + varint(container.height)
    data += struct.pack("<8sf", container.model_id, container.guard_band)
    if container.quality is not None:
        data += struct.pack("<H", container.quality)
    if container.tile:
        data += bytes([container.tile // PAD_MULTIPLE])
    return data


def _flags(container: Container) -> int:
    quality = 0 if container.quality is None else _HAS_QUALITY
    sides = 0 if container.sides is None else _HAS_SIDES
    layer = _HAS_LAYER if container.layer else 0
    return quality | (_HAS_TILES if container.tile else 0) | (_GREY if container.grey else 0) | sides | layer


def parse(data: bytes, max_pixels: int = MAX_PIXELS) -> Container:
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
    flags = data[5]
    if flags & ~(_HAS_QUALITY | _HAS_TILES | _GREY | _HAS_SIDES | _HAS_LAYER):
        raise StreamError("the .tcm file uses features that this version lacks; install a newer tcm_jax")
    reader = ByteReader(body, 6, _TRUNCATED)
    width, height = reader.varint(), reader.varint()
    most = min(_check_size(width, height, max_pixels), _MAX_SIDE)
    model_id, guard_band = struct.unpack("<8sf", reader.take(12))
    if not 0 <= guard_band <= np.float32(MAX_GUARD_BAND):
        raise StreamError("the .tcm file is altered: its guard band is out of range")
    quality = _parse_quality(reader) if flags & _HAS_QUALITY else None
    tile = _parse_tile(reader) if flags & _HAS_TILES else 0
    sections = _sections(reader)
    if (_LAYER in sections) != bool(flags & _HAS_LAYER):
        raise StreamError("the .tcm file is altered: it lacks its residual layer, or has one that it does not name")
    alone = _LAYER in sections and not {_CHECKSUMS, _SIDES, _LATENTS} & set(sections)
    if not alone and not {_CHECKSUMS, _LATENTS} <= set(sections):
        raise StreamError("the .tcm file is altered: it lacks its checksums or its latents")
    checksums = () if alone else _parse_checksums(sections[_CHECKSUMS])
    sides = sections.get(_SIDES, b"") if flags & _HAS_SIDES else None
    corrections: tuple[np.ndarray, ...] = ()
    if _SIDES in sections and sides is None:
        corrections = parse_corrections(sections[_SIDES], len(checksums) - 1, most)
    alpha, icc, exif, layer = (sections.get(tag, b"") for tag in (_ALPHA, _ICC, _EXIF, _LAYER))
    latents, grey = sections.get(_LATENTS, b""), bool(flags & _GREY)
    fixed = (width, height, model_id, guard_band, checksums, latents)
    return Container(*fixed, quality, tile, grey, alpha, icc, exif, sides, layer, corrections)


def _parse_quality(reader: ByteReader) -> int:
    (quality,) = struct.unpack("<H", reader.take(2))
    if not MIN_QUALITY <= quality <= MAX_QUALITY:
        raise StreamError("the .tcm file is altered: its quality is out of range")
    return quality


def _parse_tile(reader: ByteReader) -> int:
    tile = reader.take(1)[0] * PAD_MULTIPLE
    if not MIN_TILE <= tile <= MAX_TILE:
        raise StreamError("the .tcm file is altered: the size of its tiles is out of range")
    return tile


def _check_size(width: int, height: int, max_pixels: int) -> int:
    """Pixels after padding to multiples of 128, to which memory is proportional; no slice has more symbols."""
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise StreamError(f"the .tcm file is altered: it declares a picture of {width}x{height} pixels")
    pixels = math.prod(padded_size(height, width))
    if pixels > max_pixels:
        raise StreamError(f"the picture has {width}x{height} pixels; padded, that is over the limit of {max_pixels}")
    return pixels


def _sections(reader: ByteReader) -> dict[int, bytes]:
    sections: dict[int, bytes] = {}
    while reader.left:
        tag, payload = reader.take(1)[0], reader.counted()
        if not _CHECKSUMS <= tag <= _LAYER:
            raise StreamError(f"the .tcm file has a section {tag} unknown to this version; install a newer tcm_jax")
        if tag <= max(sections, default=0):
            raise StreamError("the .tcm file is altered: its sections are out of order")
        if tag > _LATENTS and not payload:
            raise StreamError("the .tcm file is altered: its alpha, its layer or its metadata is empty")
        sections[tag] = payload
    return sections


def _skip_head(reader: ByteReader, flags: int) -> None:
    """Goes on from the flags to the first section."""
    reader.varint(), reader.varint()
    reader.take(12 + 2 * bool(flags & _HAS_QUALITY) + bool(flags & _HAS_TILES))


def _ends_early(data: bytes) -> bool:
    """Whether a file whose checksum is wrong lacks bytes, by its own lengths.

    A file cut exactly behind the latents or a later section looks like an altered one.
    """
    reader = ByteReader(data, 6, _TRUNCATED)
    try:
        _skip_head(reader, data[5])
        tag = 0
        while tag < _LATENTS or (reader.position < len(data) - 4 and _LATENTS < data[reader.position] <= _LAYER):
            tag = reader.take(1)[0]
            reader.counted()
        reader.take(4)
    except StreamError as error:
        return str(error) == _TRUNCATED
    return False


def _pack_checksums(checksums: tuple[int, ...]) -> bytes:
    *first, last = checksums
    return struct.pack(f"<{len(first)}HI", *first, last)


def _parse_checksums(payload: bytes) -> tuple[int, ...]:
    first = (len(payload) - 4) // 2
    if first < 0 or len(payload) != 2 * first + 4:
        raise StreamError("the .tcm file is altered: its checksums have an impossible length")
    return struct.unpack(f"<{first}HI", payload)
