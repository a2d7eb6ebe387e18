"""JPEG's segments before its pixels: the pixels without metadata, and profiles whose parts are not all there."""

import struct
from collections.abc import Iterator
from typing import Any

from tcm_jax.images.metadata import EXIF_PREFIX, UnusableError

SIGNATURE = b"\xff\xd8"
_APP2, _SOS = 0xE2, 0xDA
_BARE = frozenset({0x00, *range(0xD0, 0xD8), 0xFF})  # markers without a segment, padding among them
_DISPENSABLE = frozenset({*range(0xE0, 0xF0), 0xFE})  # segments of applications, and comments
_WHOLE = {0xE0: 14, 0xEE: 12}  # bytes of JFIF's and Adobe's, which say what the channels are; of fewer none is read
_ICC, _XMP = b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0"


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment before the pixels, whose body is 4 bytes from its start."""
    at = len(SIGNATURE)
    while at + 4 <= len(data):
        kind = data[at + 1]
        if data[at] != 0xFF or kind in _BARE:
            at += 1  # what readers skip
        elif kind == _SOS:
            return
        else:
            end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
            yield kind, at, end
            at = end


def without_metadata(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """(the JPEG with its pixels alone; its EXIF and XMP by the names of Pillow's `info`)."""
    kept, exif, xmp, at = [], b"", b"", 0
    for kind, start, end in _segments(data):
        body = data[start + 4 : end]
        if kind not in _DISPENSABLE or len(body) >= _WHOLE.get(kind, 1 << 16):
            continue
        if body.startswith(EXIF_PREFIX):
            exif += body.removeprefix(EXIF_PREFIX)
        elif body.startswith(_XMP):
            xmp = body.removeprefix(_XMP)
        kept.append(data[at:start])
        at = end
    return b"".join([*kept, data[at:]]), {"exif": exif, "xmp": xmp}


def profile(data: bytes) -> bytes:
    """The ICC profile of a JPEG, nothing if it has none. Raises UnusableError if its parts are not all there.

    A part begins with its number, from 1 or from 0, and how many there are; of a single one they do not matter.
    """
    bodies = {data[start + 4 : end] for kind, start, end in _segments(data) if kind == _APP2}
    parts = sorted(body.removeprefix(_ICC) for body in bodies if body.startswith(_ICC))
    numbers, counts = {part[:1] for part in parts}, [int.from_bytes(part[1:2]) for part in parts]
    if len(parts) > 1 and (len(numbers) < len(parts) or counts[0] != len(parts)):
        raise UnusableError(f"its {len(parts)} parts are not numbered as that many")
    whole = b"".join(part[2:] for part in parts)
    if parts and not whole:
        raise UnusableError("it is empty")
    return whole


def profile_of(data: bytes) -> tuple[dict[str, bytes], list[str]]:
    """(a JPEG's profile by its name in Pillow's `info`, what is damaged of it); of other files nothing."""
    if not data.startswith(SIGNATURE):
        return {}, []
    try:
        return {"icc_profile": profile(data)}, []
    except UnusableError as reason:
        return {"icc_profile": b""}, [f"ICC profile ({reason})"]
