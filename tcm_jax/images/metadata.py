"""EXIF and ICC profiles of pictures: which way is up, and what of them can be kept."""

import re
import struct
from typing import Any

from PIL import ExifTags, Image

from tcm_jax.images.limits import MAX_METADATA

EXIF_PREFIX = b"Exif\0\0"  # JPEG's; the other formats, and ours, start at the TIFF header behind it
DAMAGED_EXIF = "damaged EXIF"  # in a Pillow image's `info`: EXIF that is not kept
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
# TIFF's types of numbers; a rational is two integers.
_NUMBERS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}


class UnusableError(Exception):
    """Why a part of a file cannot be used; caught in this folder, where it becomes a `TcmWarning`."""


def check_pixels(width: int, height: int, most: int) -> None:
    """Raises UnusableError for a size that a damaged header may state, before anything of that size is made."""
    if width * height > most:
        raise UnusableError(f"it has {width}x{height} pixels, over the limit of {most:,}")


def check_profile(icc: bytes, grey: bool) -> None:
    """Raises UnusableError for an ICC profile that is damaged, too long, or of other samples than RGB or grey ones."""
    if len(icc) > MAX_METADATA:
        raise UnusableError(f"it has {len(icc):,} bytes, over the limit of {MAX_METADATA:,}")
    if len(icc) < 128 or icc[36:40] != b"acsp":
        raise UnusableError("it is no ICC profile")
    if int.from_bytes(icc[:4]) > len(icc):
        raise UnusableError(f"it is cut off: {len(icc):,} bytes of {int.from_bytes(icc[:4]):,}")
    if icc[16:20] != (b"GRAY" if grey else b"RGB "):
        kind = icc[16:20].decode("ascii", "replace").strip()
        raise UnusableError(f"it is for {kind} samples, and these are {'grey' if grey else 'RGB'}")


def check_exif(exif: bytes) -> None:
    """Raises UnusableError for EXIF, from its TIFF header on, that is damaged or too long."""
    if len(exif) > MAX_METADATA:
        raise UnusableError(f"it has {len(exif):,} bytes, over the limit of {MAX_METADATA:,}")
    _, start, count = _directory(exif)
    if start + 2 + 12 * count > len(exif):
        raise UnusableError("it is cut off")


def exif_orientation(exif: bytes) -> int | None:
    """The orientation that EXIF, from its TIFF header on, says, however damaged the rest of it is; None if it does not.

    1 to 8, or 0 for a number without a meaning. Of several the first counts, as for Pillow.
    """
    try:
        order, start, count = _directory(exif)
    except UnusableError:
        return None
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, values = struct.unpack_from(order + "HHI", exif, at)
        if tag != ExifTags.Base.Orientation or kind not in _NUMBERS or not values:
            continue
        form = order + _NUMBERS[kind]
        place = at + 8 if values * struct.calcsize(form) <= 4 else struct.unpack_from(order + "I", exif, at + 8)[0]
        if place + struct.calcsize(form) <= len(exif):
            number, *below = struct.unpack_from(form, exif, place)
            divisor = below[0] if below else 1
            return next((turn for turn in range(1, 9) if divisor and number == turn * divisor), 0)
    return None


def _directory(exif: bytes) -> tuple[str, int, int]:
    """(byte order, start of the first directory, its entries). Raises UnusableError."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        raise UnusableError("it has no TIFF header")
    if len(exif) < 8:
        raise UnusableError("it is cut off")
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        raise UnusableError("it is cut off")
    return order, start, struct.unpack_from(order + "H", exif, start)[0]


def orientation(info: dict[Any, Any], exif: bytes) -> int:
    """Which way is up, 1 to 8 as in EXIF: by EXIF, by that in a PNG's text, by damaged EXIF, or by XMP.

    `info` is a Pillow image's.
    """
    sources = (exif, exif_in_text(info), strip_prefix(as_bytes(info.get(DAMAGED_EXIF))))
    found = next((found for source in sources if (found := exif_orientation(source)) is not None), None)
    if found is None:
        xmp = as_bytes(info.get("XML:com.adobe.xmp")) or as_bytes(info.get("xmp"))
        match = _XMP_ORIENTATION.search(xmp)
        found = int(match[1]) if match else 1
    return found or 1


def exif_in_text(info: dict[Any, Any]) -> bytes:
    """EXIF, from its TIFF header on, that ImageMagick wrote as a PNG's text, as far as it goes; nothing without one."""
    text = as_bytes(info.get("Raw profile type exif"))
    digits = b"".join(text.split(b"\n")[3:])
    try:
        return strip_prefix(bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii")))
    except ValueError:  # it is no EXIF, as `check_exif` will say
        return text


def as_bytes(value: Any) -> bytes:
    """An entry of Pillow's `info` as bytes; nothing if it is something else, as a PNG's text can have any name."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


def strip_prefix(exif: bytes) -> bytes:
    """EXIF from its TIFF header on; some writers put JPEG's prefix before it twice."""
    return exif.removeprefix(EXIF_PREFIX).removeprefix(EXIF_PREFIX)


def without_orientation(exif: bytes) -> bytes:
    """EXIF, from its TIFF header on, of the picture once it is upright. Raises UnusableError."""
    fields = Image.Exif()
    try:
        fields.load(exif)
        del fields[ExifTags.Base.Orientation]
        return fields.tobytes().removeprefix(EXIF_PREFIX)
    except KeyError as error:  # Pillow did not get as far as we did
        raise UnusableError("it is damaged") from error
    except Exception as error:  # Pillow raises whatever a damaged field led it into.
        raise UnusableError(f"its orientation cannot be taken out: {error}") from error
