"""Picture files that Pillow refuses, made readable: without metadata that it stumbles over, or whole at the end.

PNG has a module of its own, as it is always read this way; so has JPEG, whose profiles come in parts.
"""

import io
import re
import struct
from typing import Any

from PIL import Image

from tcm_jax.images import icons, jpeg, png, tiff
from tcm_jax.images.metadata import UnusableError, check_pixels

# TIFF's tags beside the pixels: XMP, IPTC, Photoshop, ICC profile, EXIF, GPS, interoperability.
_TIFF_METADATA = frozenset({700, 33723, 34377, 34675, 34665, 34853, 40965})
_NO_TYPE = 0xFFFF  # of a tag: readers skip it
# An item of EXIF or XMP in a HEIF's list: box name, version, flags, number, protection, and then its type.
_METADATA_ITEM = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))(?:Exif|mime)", re.DOTALL)
_END = b"\xff\xd9"
_LONGEST = 1 << 16  # pixels of a side that is filled up: Pillow takes minutes for longer ones
_MOST_BYTES = 8  # a pixel: RGB and alpha of 16 bits


def without_metadata(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """(the file with its pixels alone, or nothing where that is not known; its EXIF, profile and XMP, if any).

    The metadata have the names of Pillow's `info`.
    """
    if data.startswith(jpeg.SIGNATURE):
        return jpeg.without_metadata(data)
    if data[:4] in tiff.MAGIC + tiff.BIG:
        return _tiff(data), {}
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[4:8] == b"ftyp":
        return _heif(data), {}
    return b"", {}


def _tiff(data: bytes) -> bytes:
    bare = bytearray(data)
    for at, tag, _ in tiff.entries(data):
        if tag in _TIFF_METADATA:
            struct.pack_into("<H" if data[:2] == b"II" else ">H", bare, at + 2, _NO_TYPE)
    return bytes(bare)


def _webp(data: bytes) -> tuple[bytes, dict[str, Any]]:
    names = {b"EXIF": "exif", b"ICCP": "icc_profile", b"XMP ": "xmp"}
    kept, info, at = [data[:12]], {}, 12
    while at + 8 <= len(data):
        kind, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        end = at + 8 + size + size % 2
        if kind in names:
            info[names[kind]] = data[at + 8 : at + 8 + size]
        else:
            kept.append(data[at:end])
        at = end
    bare = b"".join(kept)
    return bare[:4] + struct.pack("<I", len(bare) - 8) + bare[8:], info


def _heif(data: bytes) -> bytes:
    """An AVIF file whose EXIF and XMP, which are items, have no type, so that Pillow does not look for them."""
    start = data.find(b"iinf") - 4
    if start < 0:
        return b""
    end = start + int.from_bytes(data[start : start + 4])
    return data[:start] + _METADATA_ITEM.sub(rb"\1free", data[start:end]) + data[end:]


def has_profile(data: bytes) -> bool:
    """Whether a file of those formats whose profiles Pillow passes over without a word says that it has one."""
    if data[:2] == b"BM":
        return data[70:74] == b"DEBM"  # a profile in the file, of BMP's fifth version
    if data.startswith(b"GIF8"):
        return b"\x21\xff\x0bICCRGBG1012" in data
    if data[4:8] == b"jP  ":
        return b"colr\2" in data[: data.find(b"jp2c")]
    return tiff.has_profile(data)


def ends_early(data: bytes, reason: str) -> bool:
    """Whether a file that Pillow refuses for `reason` is one that stops before its end."""
    if data.startswith(png.SIGNATURE):
        return png.ends_early(data)
    return "truncated" in reason or declared_size(data) > len(data)


def declared_size(data: bytes) -> int:
    """How many bytes a file has at least, as it says itself; 0 where it does not say, or is of no known kind."""
    try:
        if data[:4] == b"RIFF":
            return 8 + int.from_bytes(data[4:8], "little")
        if data[:4] == icons.ICNS:
            return int.from_bytes(data[4:8])
        if data[:4] == icons.ICO:
            entries = icons.entries(data)
            if any(start < 6 + 16 * len(entries) for _, _, start in entries):
                return 0  # it begins like one by chance, as a TGA may
            return max((start + size for _, size, start in entries), default=6)
        if data[:4] in tiff.MAGIC:
            return 2 + struct.unpack_from("<I" if data[:2] == b"II" else ">I", data, 4)[0]
        if data[4:8] in (b"ftyp", b"JXL ", b"jP  "):
            return _end_of_boxes(data)
    except struct.error:  # the header itself is cut
        return len(data) + 1
    return 0


def _end_of_boxes(data: bytes) -> int:
    """The end of the last of the boxes that HEIF, JPEG 2000 and JPEG XL consist of."""
    end = 0
    while end + 8 <= len(data):
        size = int.from_bytes(data[end : end + 4])
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, end + 8)
        end += max(size, 8) if size else len(data) - end
    return end


def completed(data: bytes, max_pixels: int) -> bytes:
    """A file that ends early, made so whole that decoders give what is there: the rest is grey, black or the first
    colour of a palette. Raises UnusableError for more than `max_pixels`, and whatever a broken file leads it into.
    """
    data = icons.embedded_png(data) or data
    if data.startswith(png.SIGNATURE):
        return png.completed(data, max_pixels)
    if data.startswith(jpeg.SIGNATURE):
        return data + _END
    if data.startswith(b"GIF8"):
        return _completed_gif(data, max_pixels)
    if data[:4] == icons.ICO:
        return _completed_ico(data)
    with Image.open(io.BytesIO(data)) as image:
        check_pixels(image.width, image.height, max_pixels)
        if max(image.size) > _LONGEST:
            raise UnusableError(f"a side has {max(image.size):,} pixels")
        return data + bytes(_MOST_BYTES * image.width * image.height)


def _completed_gif(data: bytes, max_pixels: int) -> bytes:
    """A GIF whose first picture goes on with code 0, which is the first colour of the palette."""
    at, block = 13 + _palette(data[10]), bytes(255)
    while data[at] == 0x21:  # an extension
        at = _end_of_blocks(data, at + 2)
    width, height = struct.unpack_from("<HH", data, at + 5)
    check_pixels(width, height, max_pixels)
    end = _end_of_blocks(data, at + 11 + _palette(data[at + 9]), whole=False)
    return data[:end].ljust(end, b"\0") + (b"\xff" + block) * (2 * width * height // len(block) + 1) + b"\0;"


def _palette(flags: int) -> int:
    """Bytes of the palette that follows a GIF's header or descriptor."""
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _end_of_blocks(data: bytes, at: int, whole: bool = True) -> int:
    """Where a GIF's blocks that start at `at` end; of those that are not `whole`, without their last, empty one."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + whole


def _completed_ico(data: bytes) -> bytes:
    for at, size, start in icons.entries(data):
        if start < len(data) < start + size:
            whole = data[start:].ljust(min(size, _MOST_BYTES * 256 * 256), b"\0")  # at most 256 a side
            data = data[: at + 8] + struct.pack("<I", len(whole)) + data[at + 12 : start] + whole
    return data
