"""PNG beyond what Pillow does: metadata, the transparent colour at the file's own depth, files that end early."""

import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tcm_jax.images.limits import MAX_METADATA
from tcm_jax.images.metadata import DAMAGED_EXIF, UnusableError, check_pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ANIMATION = {b"acTL": 8, b"fcTL": 26, b"fdAT": 4}  # chunks that say how many frames there are, and their least bytes
# Of what stands beside the pixels, what the reader of them needs.
_WITH_THE_PIXELS = frozenset({b"tRNS", *_ANIMATION})
_NAMES = {b"eXIf": "EXIF", b"iCCP": "ICC profile", b"tRNS": "transparency"}
_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# Texts that say which way is up.
_TURNED = {
    b"XML:com.adobe.xmp": "xmp",
    b"Raw profile type exif": "Raw profile type exif",
}
_KEY_BYTES = {0: 2, 2: 6}  # of the transparent colour, by colour type
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_ZEROS = bytes(1 << 16)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A chunk of a PNG as the file has it, which at the end of a cut file is less of it than `size`."""

    size: int
    kind: bytes
    data: memoryview
    checksum: memoryview

    @property
    def ancillary(self) -> bool:
        """Whether the pixels can be read without it."""
        return bool(self.kind[0] & 32)

    @property
    def intact(self) -> bool:
        """Whether all of it is there and its checksum is right."""
        expected = zlib.crc32(self.data, zlib.crc32(self.kind))
        return len(self.checksum) == 4 and int.from_bytes(self.checksum) == expected


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG as far as they go; nothing for other files."""
    if not data.startswith(SIGNATURE):
        return
    view, at = memoryview(data), len(SIGNATURE)
    while at + 8 <= len(data):
        (size,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        end = at + 8 + size
        yield Chunk(size, kind, view[at + 8 : end], view[end : end + 4])
        at = end + 4
        if kind == b"IEND":
            return


@dataclasses.dataclass(frozen=True)
class ColourKey:
    """The one transparent colour of a grey or RGB PNG: its samples, and the bits of each."""

    samples: tuple[int, ...]
    depth: int

    def alpha(self, colour: np.ndarray, data: bytes) -> np.ndarray:
        """uint8 [H, W], 0 where the picture has this colour, else 255.

        `colour` is what Pillow reads of the file `data`, uint8 [H, W] grey or [H, W, 3] RGB: samples of fewer than 8
        bits scaled up, the high bytes of those of 16.
        """
        if self.depth == 16:
            same = _equal(colour, [sample >> 8 for sample in self.samples])
            same &= _equal(_low_bytes(data), [sample & 255 for sample in self.samples])
        else:
            scale = 255 // ((1 << self.depth) - 1) if self.depth < 8 else 1
            same = _equal(colour, [sample * scale for sample in self.samples])
        return np.where(same, np.uint8(0), np.uint8(255))


def _equal(colour: np.ndarray, samples: list[int]) -> np.ndarray:
    planes = colour[..., None] if colour.ndim == 2 else colour
    return np.logical_and.reduce([planes[..., i] == sample for i, sample in enumerate(samples)])


def colour_key(data: bytes) -> ColourKey | None:
    """The transparent colour that a PNG declares before its pixels; None for other files and other transparency."""
    first: dict[bytes, memoryview] = {}
    for chunk in chunks(data):
        first.setdefault(chunk.kind, chunk.data)
        if chunk.kind == b"IDAT":
            break
    header, transparency = first.get(b"IHDR", memoryview(b"")), first.get(b"tRNS", memoryview(b""))
    if len(header) < 13 or header[9] not in _KEY_BYTES or len(transparency) < _KEY_BYTES[header[9]]:
        return None
    depth, samples = header[8], struct.unpack_from(f">{_CHANNELS[header[9]]}H", transparency)
    mask = (1 << depth) - 1  # the standard: bits above the file's own are not looked at
    return ColourKey(tuple(sample & mask for sample in samples), depth)


def size(data: bytes) -> tuple[int, int]:
    """Width and height that a PNG declares; (0, 0) for other files."""
    header = next((chunk.data for chunk in chunks(data)), b"")
    return struct.unpack_from(">II", header) if len(header) >= 8 else (0, 0)


def _low_bytes(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3], the low bytes of an RGB PNG of 16 bits; Pillow gives the high ones."""
    with Image.open(io.BytesIO(data)) as image:
        # Read as if their bytes were the other way round, its "high" bytes are the low ones.
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]  # type: ignore[attr-defined]
        return np.array(image)


def without_metadata(data: bytes) -> tuple[bytes, dict[str, bytes], list[str]]:
    """(the PNG of the pixels alone; its metadata by the names of Pillow's `info`; what of EXIF and profile is damaged).

    Pillow itself refuses pictures for their metadata (a checksum, a size), and takes a text called "transparency" for
    the transparency.
    """
    kept: list[memoryview | bytes] = [SIGNATURE]
    metadata: dict[str, bytes] = {}
    seen: set[bytes] = set()
    damaged = []
    key_bytes = _KEY_BYTES.get(data[25], 0) if len(data) > 25 else 0  # at the colour type
    animated = all(len(chunk.data) >= _ANIMATION.get(chunk.kind, 0) for chunk in chunks(data))
    if not animated:
        damaged.append("frames after the first (a part of what describes them is missing)")
    for chunk in chunks(data):
        if chunk.kind in _ANIMATION and not animated:
            continue
        out_of_place = chunk.kind == b"tRNS" and seen & {b"tRNS", b"IDAT"}  # not looked at, as in libpng
        if chunk.ancillary and not chunk.intact and chunk.kind in _NAMES:
            damaged.append(f"{_NAMES[chunk.kind]} (its checksum is wrong)")
            if chunk.kind == b"eXIf":  # which way is up may be read of it all the same
                metadata[DAMAGED_EXIF] = bytes(chunk.data)
        elif chunk.kind == b"tRNS" and key_bytes and len(chunk.data) != key_bytes:
            damaged.append(f"transparency (it has {len(chunk.data)} bytes in place of {key_bytes})")
            continue
        elif (not chunk.ancillary or chunk.kind in _WITH_THE_PIXELS) and not out_of_place:
            kept += [struct.pack(">I", chunk.size), chunk.kind, chunk.data, chunk.checksum]
        elif chunk.intact or chunk.kind in _TEXT:
            try:
                metadata.update(_metadata_of(chunk))
            except (UnusableError, zlib.error) as error:
                damaged.append(f"{_NAMES.get(chunk.kind, 'text')} ({error})")
        seen.add(chunk.kind)
    return b"".join(kept), metadata, damaged


def _metadata_of(chunk: Chunk) -> dict[str, bytes]:
    """What a chunk holds of metadata, by the names of Pillow's `info`. Raises UnusableError, zlib.error."""
    content = bytes(chunk.data)
    name, _, rest = content.partition(b"\0")
    if chunk.kind in (b"eXIf", b"iCCP"):
        found = content if chunk.kind == b"eXIf" else _unpack(rest[1:])
        if not found:
            raise UnusableError("it is empty")
        return {"exif" if chunk.kind == b"eXIf" else "icc_profile": found}
    if chunk.kind in _TEXT and name in _TURNED:
        text = {b"tEXt": rest, b"zTXt": rest[1:], b"iTXt": rest[2:].split(b"\0", 2)[-1]}[chunk.kind]
        packed = chunk.kind == b"zTXt" or (chunk.kind == b"iTXt" and rest[:1] == b"\1")
        return {_TURNED[name]: _unpack(text) if packed else text}
    return {}


def _unpack(data: bytes) -> bytes:
    """The unpacked bytes, at most one more than a .tcm file holds. Raises zlib.error."""
    return zlib.decompressobj().decompress(data, MAX_METADATA + 1)


def damage(data: bytes) -> str:
    """What is wrong with a PNG that Pillow does not identify, as far as its chunks tell; nothing for other files."""
    for chunk in chunks(data):
        name = str(chunk.kind)[2:-1]  # printable, whatever its bytes are
        if len(chunk.data) < chunk.size:
            return f"of the {chunk.size:,} bytes that its chunk {name} states there are {len(chunk.data):,}"
        if not chunk.ancillary and not chunk.intact:
            return f"the checksum of its chunk {name} is wrong"
    return "Pillow cannot read it, and gives no reason" if data.startswith(SIGNATURE) else ""


def ends_early(data: bytes) -> bool:
    """Whether a PNG stops before its last chunk, but after some pixels."""
    kinds = [chunk.kind for chunk in chunks(data)]
    return b"IDAT" in kinds and kinds[-1] != b"IEND"


def completed(data: bytes, max_pixels: int) -> bytes:
    """A PNG that ends early, whole: samples that are missing are 0. Raises UnusableError for more than `max_pixels`."""
    parts = list(chunks(data))
    header = parts[0].data
    width, height = size(data)
    check_pixels(width, height, max_pixels)
    left = _filtered_size(header)
    reader, writer, packed = zlib.decompressobj(), zlib.compressobj(1), []
    for chunk in parts:
        if chunk.kind == b"IDAT" and left and not reader.eof:
            try:
                samples = reader.decompress(bytes(chunk.data), left)
            except zlib.error:
                break
            left -= len(samples)
            packed.append(writer.compress(samples))
    while left:
        packed.append(writer.compress(_ZEROS[:left]))
        left -= min(left, len(_ZEROS))
    packed.append(writer.flush())
    before = [p for p in parts if p.kind not in (b"IDAT", b"IEND") and p.intact]
    written = [_chunk(p.kind, bytes(p.data)) for p in before]
    return b"".join([SIGNATURE, *written, _chunk(b"IDAT", b"".join(packed)), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _filtered_size(header: memoryview) -> int:
    """Bytes of all rows, each with its filter byte, of the passes that the header means."""
    width, height, depth, colour_type = struct.unpack_from(">IIBB", header)
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    size = 0
    for left, top, step_x, step_y in passes:
        columns, rows = -(-(width - left) // step_x), -(-(height - top) // step_y)
        if columns > 0 and rows > 0:
            size += rows * (1 + -(-columns * depth * _CHANNELS[colour_type] // 8))
    return size
