"""Picture files that Pillow refuses, made readable: without metadata that it stumbles over, or whole at the end.

PNG has a module of its own, as it is always read this way.
"""

import io
import re
import struct
from typing import Any

from PIL import Image

from tcm_jax.images import png
from tcm_jax.images.metadata import EXIF_PREFIX

_SOI, _SOS = b"\xff\xd8", 0xDA
# JPEG's segments of applications and comments, but for JFIF's and Adobe's, which say what the channels are.
_DISPENSABLE = frozenset({*range(0xE1, 0xF0), 0xFE}) - {0xEE}
_ICC, _XMP = b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0"
# TIFF's tags beside the pixels: XMP, IPTC, Photoshop, ICC profile, EXIF, GPS, interoperability.
_TIFF_METADATA = frozenset({700, 33723, 34377, 34675, 34665, 34853, 40965})
_NO_TYPE = 0xFFFF  # of a tag: readers skip it
# An item of EXIF or XMP in a HEIF's list: box name, version, flags, number, protection, and then its type.
_METADATA_ITEM = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))(?:Exif|mime)", re.DOTALL)
_END = b"\xff\xd9"
_MOST_BYTES = 8  # a pixel: RGB and alpha of 16 bits


def without_metadata(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """(the file with its pixels alone, or nothing where that is not known; its EXIF, profile and XMP, if any).

    The metadata have the names of Pillow's `info`.
    """
    if data.startswith(_SOI):
        return _jpeg(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(data), {}
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[4:8] == b"ftyp":
        return _heif(data), {}
    return b"", {}


def _jpeg(data: bytes) -> tuple[bytes, dict[str, Any]]:
    kept, exif, xmp, profile, at = [_SOI], b"", b"", [], len(_SOI)
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, (size,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if kind == _SOS:
            break
        if kind == 0xFF:  # padding
            at += 1
            continue
        body = data[at + 4 : at + 2 + size]
        if kind not in _DISPENSABLE:
            kept.append(data[at : at + 2 + size])
        elif body.startswith(EXIF_PREFIX):
            exif += body.removeprefix(EXIF_PREFIX)
        elif body.startswith(_ICC):
            profile.append(body.removeprefix(_ICC))
        elif body.startswith(_XMP):
            xmp = body.removeprefix(_XMP)
        at += 2 + size
    icc = b"".join(part[2:] for part in sorted(profile))  # each begins with its number and how many there are
    return b"".join([*kept, data[at:]]), {"exif": exif, "icc_profile": icc, "xmp": xmp}


def _tiff(data: bytes) -> bytes:
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return b""
    bare = bytearray(data)
    (count,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        if struct.unpack_from(order + "H", data, at)[0] in _TIFF_METADATA:
            struct.pack_into(order + "H", bare, at + 2, _NO_TYPE)
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
    """AVIF, whose EXIF and XMP are items: as items of no type they are not looked for. Its rotation is a property."""
    start = data.find(b"iinf") - 4
    if start < 0:
        return b""
    end = start + int.from_bytes(data[start : start + 4])
    return data[:start] + _METADATA_ITEM.sub(rb"\1free", data[start:end]) + data[end:]


def ends_early(data: bytes, reason: str) -> bool:
    """Whether a file that Pillow refuses for `reason` is one that stops before its end."""
    return png.ends_early(data) if data.startswith(png.SIGNATURE) else "truncated" in reason


def completed(data: bytes) -> bytes:
    """A file that ends early, made so whole that decoders give what is there: the rest is grey or black."""
    if data.startswith(png.SIGNATURE):
        return png.completed(data)
    if data.startswith(_SOI):
        return data + _END
    with Image.open(io.BytesIO(data)) as image:
        return data + bytes(_MOST_BYTES * image.width * image.height)
