"""TIFF files: what Pillow says nothing of, and grey and alpha in separate planes, of which it reads one or none."""

import io
import struct
from collections.abc import Iterator

from PIL import Image

MAGIC = (b"II*\0", b"MM\0*")
BIG = (b"II+\0", b"MM\0+")  # of BigTIFF
_ICC = 34675
_SEPARATE = 2
_PLANAR, _BITS, _SAMPLES, _PHOTOMETRIC = 284, 258, 277, 262
_PIECES = ((273, 279), (324, 325))  # offsets and sizes of strips, of tiles
_KEPT = (256, 257, 259, 266, 274, 278, 317, 322, 323)  # size, compression, orders, predictor, sizes of pieces
_LONG = 4


def entries(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(place, tag, count of values) of each entry of the first directory of a TIFF or BigTIFF, as far as it goes."""
    order, big = "<" if data[:2] == b"II" else ">", data[:4] in BIG
    at_start, at_count, entry = ("Q", "Q", "HHQ8x") if big else ("I", "H", "HHI4x")
    size, head = struct.calcsize(order + entry), struct.calcsize(order + at_count)
    try:
        (start,) = struct.unpack_from(order + at_start, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + at_count, data, start)
        for at in range(start + head, start + head + size * count, size):
            tag, _, values = struct.unpack_from(order + entry, data, at)
            yield at, tag, values
    except (struct.error, OverflowError):  # it ends before
        return


def has_profile(data: bytes) -> bool:
    """Whether a file is a TIFF that says that it has an ICC profile."""
    return data[:4] in MAGIC + BIG and any(tag == _ICC and values for _, tag, values in entries(data))


def joined_planes(image: Image.Image, data: bytes) -> Image.Image:
    """An opened picture, with its planes in one if they are separate ones of grey and alpha; `data` is its file."""
    if data[:4] not in MAGIC or image.mode not in ("LA", "La") or image.tag_v2.get(_PLANAR) != _SEPARATE:  # type: ignore[attr-defined]
        return image
    planes = [Image.open(io.BytesIO(_plane(image.tag_v2, data, i))).convert("L") for i in range(2)]  # type: ignore[attr-defined]
    joined = Image.merge(image.mode, planes)
    joined.format, joined.info = image.format, dict(image.info)
    return joined


def _plane(tags, data: bytes, number: int) -> bytes:
    """The file with another directory behind it, of the plane of that number alone."""
    order = "<" if data.startswith(b"II") else ">"
    entries = {tag: [tags[tag]] for tag in _KEPT if tag in tags} | {_BITS: [8], _SAMPLES: [1], _PHOTOMETRIC: [1]}
    for tag in (tag for pair in _PIECES for tag in pair if tag in tags):
        half = len(tags[tag]) // 2
        entries[tag] = tags[tag][number * half : (number + 1) * half]
    start = len(data) + len(data) % 2
    beyond = start + 2 + 12 * len(entries) + 4
    directory, rest = struct.pack(f"{order}H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            packed, rest = struct.pack(f"{order}I", beyond + len(rest)), rest + packed
        directory += struct.pack(f"{order}HHI", tag, _LONG, len(values)) + packed
    head = data[:4] + struct.pack(f"{order}I", start)
    return head + data[8:] + b"\0" * (start - len(data)) + directory + bytes(4) + rest
