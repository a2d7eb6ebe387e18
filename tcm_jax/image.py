"""Pictures in and out: files to uint8 [H, W, 3] arrays of RGB and back."""

import contextlib
import io
import os
import secrets
import stat
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tcm_jax.errors import ImageError, TcmError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".jp2", ".avif"}
)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture file.

    Returns uint8 [H, W, 3], RGB, upright (EXIF orientation applied). Grey, palette, CMYK and 16-bit pictures are
    converted; values of 16 bits are scaled to 8.

    Raises ImageError for a file that is missing, broken or no picture, for one with several frames, for more pixels
    than Pillow's limit against decompression bombs, and for a picture with transparent parts.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes the bytes of a picture file as `read_image` does; `name` is what errors call it."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            # A photograph with its preview behind it (MPO) is one picture; every other format means its frames.
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
                raise ImageError(f"{name} holds {picture.n_frames} frames; give each one as a file of its own")
            return _to_rgb8(ImageOps.exif_transpose(picture), name)
    except TcmError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageError(f"{name} has too many pixels: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a picture in a format that Pillow reads") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file led them into.
        raise ImageError(f"{name} is broken: {error or type(error).__name__}") from error


def _to_rgb8(picture: Image.Image, name: str) -> np.ndarray:
    """Converts an opened picture of any mode to uint8 [H, W, 3]."""
    if picture.mode == "F":
        raise ImageError(f"{name} has floating-point samples, whose range is unknown; convert it to 8 or 16 bits")
    if picture.mode.startswith("I"):
        return _grey16_to_rgb8(picture, name)
    if picture.has_transparency_data:
        mode, picture = picture.mode, picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] < 255:
            raise ImageError(
                f"{name} has transparent parts (mode {mode}), which cannot be stored; flatten it on a background first"
            )
    return np.array(picture.convert("RGB"))


def _grey16_to_rgb8(picture: Image.Image, name: str) -> np.ndarray:
    """Scales 16-bit grey to 8 bits, rounding to nearest (Pillow's own conversion clips at 255)."""
    grey = np.array(picture).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(f"{name} has samples beyond 16 bits; convert it to 8 or 16 bits")
    if "transparency" in picture.info and (grey == picture.info["transparency"]).any():
        raise ImageError(f"{name} has transparent parts, which cannot be stored; flatten it on a background first")
    return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=-1)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as a PNG, completely or not at all. Raises TcmError if the file cannot be written."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    atomic_write(path, buffer.getvalue())


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file under a temporary name in the same folder and renames it, so that no reader sees half of it.

    Raises TcmError that names the file and the reason (no such folder, no permission, no space left).
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not stat.S_ISREG(target.stat().st_mode) and not target.is_dir():
        write = _write_through  # A pipe or a device such as /dev/stdout must not be replaced by a file.
    else:
        write = _write_and_rename
    try:
        write(target, data)
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise TcmError(f"cannot write {path}: {reason}") from error


def _write_through(target: Path, data: bytes) -> None:
    with target.open("wb") as file:
        file.write(data)


def _write_and_rename(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def pad_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
    """Repeats the last row and column until both sides are multiples: uint8 [H, W, 3] -> uint8 [H', W', 3]."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
