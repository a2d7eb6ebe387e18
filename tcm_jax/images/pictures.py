"""Pictures in and out: files of any mode to what the codec stores, and back to PNG."""

import contextlib
import dataclasses
import io
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from tcm_jax.errors import ImageError, TcmError, TcmWarning
from tcm_jax.images import formats, icons, jpeg, metadata, png, repair, tiff
from tcm_jax.images.limits import MAX_PIXELS
from tcm_jax.images.metadata import EXIF_PREFIX, UnusableError
from tcm_jax.images.picture import Picture
from tcm_jax.images.samples import planes
from tcm_jax.system.files import atomic_write, read_file

_PNG_LEVEL = 2  # of zlib: about 0.6 of the time of its 4, for -1 to 11 % more bytes of photographs
_PNG_PROFILE = 1 << 20  # bytes; Pillow refuses a PNG with a longer one (PngImagePlugin.MAX_TEXT_CHUNK)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture file as uint8 [H, W, 3]: what `read_picture` gives, on white.

    Raises ImageError as it does; warns (TcmWarning) of what the file has and cannot be used.
    """
    return with_warning(read_picture(path), str(path)).rgb


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes the bytes of a picture file as `read_image` does; `name` is what errors and warnings call it."""
    return with_warning(decode_picture(data, name), name).rgb


def with_warning(picture: Picture, name: str) -> Picture:
    """The picture; its `warning` is warned of (TcmWarning), at the line that called the caller."""
    if message := picture.warning(name, "read"):
        warnings.warn(message, TcmWarning, stacklevel=3)
    return picture


def read_picture(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture file, upright (EXIF orientation applied).

    Palettes become RGB, samples of other ranges are scaled to 8 bits, CMYK and Lab are converted to sRGB by their
    profile (without a usable one, CMYK by Pillow's formula). Metadata that cannot be used, further frames, and a range
    that only the samples tell are in `left_out`.

    Raises ImageError for a file that is missing, broken or no picture, and for more than `max_pixels` (and more than
    Pillow's limit against decompression bombs).
    """
    try:
        data = read_file(path)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise ImageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return decode_picture(data, str(path), max_pixels)


def decode_picture(data: bytes, name: str, max_pixels: int = MAX_PIXELS, allow_truncated: bool = False) -> Picture:
    """Decodes the bytes of a picture file as `read_picture` does; `name` is what errors call it.

    With `allow_truncated`, of a file that ends early what is there is read, and the rest is grey or black.
    """
    data = icons.mended(data)
    try:
        return _decode(data, name, max_pixels)
    except TcmError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))  # Pillow refuses at twice its own
        found = re.search(r"\((\d+) pixels\)", str(error))
        count = f"{int(found[1]):,}" if found else "too many"
        raise ImageError(f"{name} has {count} pixels, over the limit of {limit:,}") from error
    except MemoryError as error:
        raise ImageError(f"{name} has too many pixels for this machine's memory") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file led them into.
        reason = " ".join(str(error).split()) or "its decoder gives no reason"
        early = repair.ends_early(data, reason)
        if early and (cut := _decode_cut(data, name, max_pixels, reason)):
            if allow_truncated:
                return cut
            reason += "; tcm compress --allow-truncated reads what is there"
        elif early and "truncated" not in reason:  # of decoders that name something else
            size = repair.declared_size(data)
            reason = f"it ends early, after {len(data):,}{f' of at least {size:,}' if size > len(data) else ''} bytes"
        elif formats.is_jpeg_xl(data) and not isinstance(error, Image.UnidentifiedImageError):
            reason = "its decoder gives no reason; the file may end early"
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = png.damage(icons.embedded_png(data) or data)
            if not reason:
                raise ImageError(f"{name} is not a picture in a format that Pillow reads") from error
        raise ImageError(f"{name} is broken: {reason}") from error


def _decode_cut(data: bytes, name: str, max_pixels: int, reason: str) -> Picture | None:
    """What is there of a picture whose file ends early; None if that is nothing."""
    try:
        picture = _decode(repair.completed(data, max_pixels), name, max_pixels)
    except Exception:
        return None
    return dataclasses.replace(picture, left_out=(*picture.left_out, f"end ({reason})"))


def _decode(data: bytes, name: str, max_pixels: int) -> Picture:
    """The picture of a file, of its pixels alone where the metadata hinders Pillow. Raises what Pillow raises, too."""
    data = icons.embedded_png(data) or data
    if data.startswith(png.SIGNATURE):
        pixels, info, damaged = png.without_metadata(data)
        return _open(pixels, name, max_pixels, info, damaged)
    formats.register_reader(data)
    profile, damaged = jpeg.profile_of(data)
    try:
        return _open(data, name, max_pixels, profile, damaged)
    except (TcmError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        # Pillow names only a file that it does not identify, and none of our callers knows that one.
        reason = "Pillow cannot read it" if isinstance(error, Image.UnidentifiedImageError) else error
        with contextlib.suppress(Exception):
            pixels, info = repair.without_metadata(data)
            return _open(pixels, name, max_pixels, profile | info, damaged or [f"other metadata ({reason})"])
        raise


def _open(data: bytes, name: str, max_pixels: int, info: dict[str, bytes], left_out: list[str]) -> Picture:
    with Image.open(io.BytesIO(data)) as image:
        _check_size(image, name, max_pixels)
        whole = tiff.joined_planes(image, data)
        whole.load()
        if not isinstance(whole.info.get("icc_profile"), bytes) and repair.has_profile(data):
            left_out = [*left_out, "ICC profile (Pillow does not give it)"]
        whole.info.update(info)
        return _from_pil(whole, data, left_out + _further_frames(data))


def _further_frames(data: bytes) -> list[str]:
    """What `left_out` says of frames after the first."""
    with Image.open(io.BytesIO(data)) as image:  # another one: Pillow counts by reading, and may end at another frame
        try:
            count = getattr(image, "n_frames", 1) - 1
        except Exception as error:
            return [f"frames after the first ({error})"]
        # A photograph with its preview behind it is one picture.
        return [f"frames after the first ({count})"] if count > 0 and image.format != "MPO" else []


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageError(f"{name} has {image.width}x{image.height} pixels, over the limit of {max_pixels:,}")


def from_pil(image: Image.Image) -> Picture:
    """What the codec stores of a Pillow image of any mode; warns (TcmWarning) of metadata that cannot be used.

    A PNG's transparent colour of other than 8 bits is known as long as its file is: until Pillow loads the picture,
    later by its name.
    """
    data = _file_of_png(image)
    copied = image.copy()
    copied.format = image.format  # by which a TIFF is known to be upright
    return with_warning(_from_pil(copied, data, []), "the picture")


def _file_of_png(image: Image.Image) -> bytes:
    """The file of a PNG with transparency that Pillow has opened, as far as it can still be had, else nothing."""
    if not isinstance(image, ImageFile.ImageFile) or image.format != "PNG" or "transparency" not in image.info:
        return b""
    if not image.tile or image.fp is None:  # Pillow has loaded it and let go of the file
        try:
            data = Path(os.fsdecode(image.filename)).read_bytes() if image.filename else b""
        except OSError:
            return b""
        return data if png.size(data) == image.size else b""
    image.fp.seek(0)  # Pillow itself seeks before it loads
    return image.fp.read()


def _from_pil(image: Image.Image, data: bytes, left_out: list[str]) -> Picture:
    """The picture of a loaded image; `data` is its file, if that is known. `left_out` is added to."""
    exif = metadata.strip_prefix(metadata.as_bytes(image.info.get("exif"))) or metadata.exif_in_text(image.info)
    # Pillow turns a TIFF when it loads it, whose XMP it leaves as it was.
    turn = _TURNS.get(1 if image.format == "TIFF" else metadata.orientation(image.info, exif))
    colour, alpha, converted = planes(image, data, left_out)
    icc = b"" if converted else metadata.as_bytes(image.info.get("icc_profile"))
    icc = _usable("ICC profile", icc, lambda icc: metadata.check_profile(icc, colour.ndim == 2), left_out)
    exif = _usable("EXIF", exif, metadata.check_exif, left_out)
    if turn:
        colour, alpha = turn(colour), None if alpha is None else turn(alpha)
        if metadata.exif_orientation(exif) is not None:
            exif = _usable("EXIF", exif, metadata.without_orientation, left_out)
    return Picture(colour, alpha, icc, exif, tuple(left_out))


def _usable(what: str, data: bytes, check: Callable[[bytes], bytes | None], left_out: list[str]) -> bytes:
    """What `check` makes of `data` (None: it stays); nothing, and a line in `left_out`, if that is unusable."""
    try:
        checked = check(data) if data else data
    except UnusableError as reason:
        left_out.append(f"{what} ({reason})")
        return b""
    return data if checked is None else checked


# What the orientation asks for, rows first.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda plane: np.ascontiguousarray(plane[:, ::-1]),
    3: lambda plane: np.ascontiguousarray(plane[::-1, ::-1]),
    4: lambda plane: np.ascontiguousarray(plane[::-1]),
    5: lambda plane: np.ascontiguousarray(plane.swapaxes(0, 1)),
    6: lambda plane: np.ascontiguousarray(plane[::-1].swapaxes(0, 1)),
    7: lambda plane: np.ascontiguousarray(plane[::-1, ::-1].swapaxes(0, 1)),
    8: lambda plane: np.ascontiguousarray(plane[:, ::-1].swapaxes(0, 1)),
}


def to_pil(picture: Picture) -> Image.Image:
    """The picture as a Pillow image of mode L, LA, RGB or RGBA, with profile and EXIF in its `info`."""
    image = Image.fromarray(picture.array)
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = EXIF_PREFIX + picture.exif
    return image


def for_png(picture: Picture) -> Picture:
    """The picture with the metadata that a PNG can hold so that Pillow reads it again; the rest is in `left_out`."""

    def check(icc: bytes) -> None:
        metadata.check_profile(icc, picture.colour.ndim == 2)
        if len(icc) > _PNG_PROFILE:
            raise UnusableError(f"it has {len(icc):,} bytes; Pillow reads no PNG with more than {_PNG_PROFILE:,}")

    left_out = list(picture.left_out)
    icc = _usable("ICC profile", picture.icc, check, left_out)
    exif = _usable("EXIF", picture.exif, metadata.check_exif, left_out)
    return dataclasses.replace(picture, icc=icc, exif=exif, left_out=tuple(left_out))


def encode_png(picture: Picture) -> bytes:
    """The bytes of a PNG file, with the profile and EXIF as far as `for_png` leaves them."""
    picture, buffer = for_png(picture), io.BytesIO()
    options: dict[str, Any] = {"icc_profile": picture.icc or None, "compress_level": _PNG_LEVEL}
    if picture.exif:
        options["exif"] = picture.exif
    Image.fromarray(picture.array).save(buffer, "PNG", **options)
    return buffer.getvalue()


def write_png(path: str | os.PathLike, image: np.ndarray | Picture) -> None:
    """Writes a picture as a PNG, completely or not at all. Raises TcmError if the file cannot be written."""
    atomic_write(path, encode_png(Picture.of(image)))
