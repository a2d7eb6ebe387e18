"""TIFF files: what Pillow says nothing of, and separate planes that it misreads."""

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

MAGIC = (b"II*\0", b"MM\0*")
BIG = (b"II+\0", b"MM\0+")  # of BigTIFF
_ICC = 34675
_SEPARATE = 2
_PLANAR, _BITS, _SAMPLES, _PHOTOMETRIC, _COMPRESSION, _EXTRA = 284, 258, 277, 262, 259, 338
_NOT_PACKED = 1
_MULTIPLIED = 1  # of the first extra sample: alpha that colours were multiplied with
_COLOURS = ("RGB", "RGBA", "CMYK")
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


def white_is_zero(image: Image.Image) -> bool:
    """Whether an opened picture is a TIFF that says that its lowest samples are white."""
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def joined_planes(image: Image.Image, data: bytes) -> Image.Image:
    """An opened picture, with its planes in one if they are separate ones that Pillow misreads; `data` is its file.

    Of grey and alpha Pillow reads one or none; others that are not packed it reads as if they had 8 bits.
    """
    tags = getattr(image, "tag_v2", {})
    misread = image.mode in ("LA", "La") or (image.mode in _COLOURS and tags.get(_COMPRESSION, 1) == _NOT_PACKED)
    if data[:4] not in MAGIC + BIG or tags.get(_PLANAR) != _SEPARATE or not misread:
        return image
    planes = [_samples(_plane(tags, data, i)) for i in range(len(image.getbands()))]
    multiplied = image.mode == "RGBA" and tags.get(_EXTRA, ())[:1] == (_MULTIPLIED,)
    joined = Image.merge("RGBa" if multiplied else image.mode, planes)
    joined.format, joined.info = image.format, dict(image.info)
    return joined


def _samples(plane: bytes) -> Image.Image:
    """The samples of a file of one plane, of 8 bits: of 16 the high ones, as Pillow gives them of joined planes."""
    with Image.open(io.BytesIO(plane)) as image:
        high = image.mode.startswith("I;16")
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if high else image.convert("L")


def _plane(tags, data: bytes, number: int) -> bytes:
    """The file with another directory behind it, of the plane of that number alone; a BigTIFF becomes a TIFF."""
    order = "<" if data.startswith(b"II") else ">"
    count = tags[_SAMPLES]
    entries = {tag: [tags[tag]] for tag in _KEPT if tag in tags}
    entries |= {_BITS: [tags[_BITS][0]], _SAMPLES: [1], _PHOTOMETRIC: [1]}
    for tag in (tag for pair in _PIECES for tag in pair if tag in tags):
        pieces = len(tags[tag]) // count
        entries[tag] = tags[tag][number * pieces : (number + 1) * pieces]
    start = len(data) + len(data) % 2
    beyond = start + 2 + 12 * len(entries) + 4
    directory, rest = struct.pack(f"{order}H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            packed, rest = struct.pack(f"{order}I", beyond + len(rest)), rest + packed
        directory += struct.pack(f"{order}HHI", tag, _LONG, len(values)) + packed
    head = data[:2] + struct.pack(f"{order}HI", 42, start)
    return head + data[8:] + b"\0" * (start - len(data)) + directory + bytes(4) + rest
