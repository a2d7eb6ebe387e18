"""What a `.tcm` file keeps exactly: alpha planes and metadata, packed within bounds (docs/format.md)."""

import lzma
import zlib
from typing import Any

import numpy as np

from tcm_jax.errors import ImageError, StreamError
from tcm_jax.images.limits import MAX_METADATA
from tcm_jax.images.picture import Picture

_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]
_LEFT, _UP = 1, 2  # bits of the filter byte: differences to the sample on the left, then to the row above


def pack_sections(picture: Picture) -> dict[str, Any]:
    """The sections, by their names in `Container`, of what a picture has beside its colours; empty if it lacks one."""
    return {
        "alpha": b"" if picture.alpha is None else pack_plane(picture.alpha),
        "icc": pack_metadata(picture.icc, "ICC profile") if picture.icc else b"",
        "exif": pack_metadata(picture.exif, "EXIF") if picture.exif else b"",
    }


def pack_plane(plane: np.ndarray) -> bytes:
    """uint8 [H, W] to a filter byte and LZMA2 of the filtered samples; with the filter that suits Deflate best."""
    filtered = [_differences(plane, filters).tobytes() for filters in range(4)]
    best = min(range(4), key=lambda filters: len(zlib.compress(filtered[filters], 1)))
    return bytes([best]) + lzma.compress(filtered[best], lzma.FORMAT_RAW, filters=_LZMA)


def unpack_plane(data: bytes, height: int, width: int) -> np.ndarray:
    """Inverse of `pack_plane`; never makes more than the height * width samples that the file declares.

    Raises StreamError if they are not exactly there.
    """
    if not data or data[0] > 3:
        raise StreamError("the .tcm file is altered: its alpha has an unknown filter")
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
    try:
        samples = decoder.decompress(data[1:], height * width + 1)
    except lzma.LZMAError as error:
        raise StreamError("the .tcm file is altered: its alpha cannot be unpacked") from error
    if len(samples) != height * width or not decoder.eof or decoder.unused_data:
        raise StreamError("the .tcm file is altered: its alpha is not of the picture's size")
    plane = np.frombuffer(samples, np.uint8).reshape(height, width)
    if data[0] & _UP:
        plane = np.cumsum(plane, axis=0, dtype=np.uint8)
    return np.cumsum(plane, axis=1, dtype=np.uint8) if data[0] & _LEFT else plane


def _differences(plane: np.ndarray, filters: int) -> np.ndarray:
    if filters & _LEFT:
        plane = np.diff(plane, axis=1, prepend=np.uint8(0))
    return np.diff(plane, axis=0, prepend=np.uint8(0)) if filters & _UP else np.ascontiguousarray(plane)


def pack_metadata(data: bytes, what: str) -> bytes:
    """Zlib of a profile or of EXIF. Raises ImageError if there is too much of it."""
    if len(data) > MAX_METADATA:
        raise ImageError(f"the picture's {what} has {len(data):,} bytes, over the limit of {MAX_METADATA:,}; "
                         "leave it out with --strip")  # fmt: skip
    return zlib.compress(data, 9)


def unpack_metadata(data: bytes, what: str) -> bytes:
    """Inverse of `pack_metadata`, never more than 4 MiB. Raises StreamError."""
    decoder = zlib.decompressobj()
    try:
        unpacked = decoder.decompress(data, MAX_METADATA)
    except zlib.error as error:
        raise StreamError(f"the .tcm file is altered: its {what} cannot be unpacked") from error
    if not decoder.eof or decoder.unused_data:
        raise StreamError(f"the .tcm file is altered: its {what} is too long or ends early")
    return unpacked
