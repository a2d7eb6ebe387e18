"""Pictures in and out: files of any mode to what the codec stores, and back to PNG."""

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tcm_jax.errors import ImageError, TcmError
from tcm_jax.system.files import atomic_write

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".jp2", ".avif"}
)
MAX_PIXELS = 2**28  # what the codec takes unless told otherwise
_STRIP = 256  # rows
EXIF_PREFIX = b"Exif\0\0"  # JPEG's; the other formats, and ours, start at the TIFF header behind it


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """What a `.tcm` file can hold of a picture.

    Attributes:
        colour: uint8 [H, W, 3] RGB, or [H, W] grey.
        alpha: uint8 [H, W], 0 transparent to 255 opaque, or None.
        icc: ICC profile of `colour` (RGB or grey), or empty: sRGB.
        exif: EXIF from its TIFF header on, or empty. Its orientation has been applied and taken out.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes = b""
    exif: bytes = b""

    @classmethod
    def of(cls, image: "np.ndarray | Picture") -> "Picture":
        """A picture of an array as `array` gives it. Raises ImageError for other arrays."""
        if isinstance(image, Picture):
            return image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise ImageError("pictures are uint8 arrays; scale other samples to 0 .. 255 first")
        if image.ndim == 2:
            return cls(image)
        if image.ndim != 3 or not 1 <= image.shape[2] <= 4:
            raise ImageError(
                f"pictures are arrays of shape [height, width] or [height, width, 1 to 4 channels], not {image.shape}"
            )
        colours = 1 if image.shape[2] < 3 else 3
        colour = image[..., 0] if colours == 1 else image[..., :3]
        return cls(colour, image[..., -1] if image.shape[2] > colours else None)

    @property
    def array(self) -> np.ndarray:
        """uint8 [H, W] grey, [H, W, 2] grey and alpha, [H, W, 3] RGB, or [H, W, 4] RGB and alpha."""
        return self.colour if self.alpha is None else np.dstack([self.colour, self.alpha])

    @property
    def rgb(self) -> np.ndarray:
        """uint8 [H, W, 3]: grey three times, transparent parts on white."""
        rgb = self.colour if self.colour.ndim == 3 else np.repeat(self.colour[..., None], 3, axis=-1)
        if self.alpha is None:
            return rgb
        alpha = self.alpha[..., None].astype(np.uint16)
        return ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture file as uint8 [H, W, 3]: what `read_picture` gives, on white. Raises ImageError as it does."""
    return read_picture(path).rgb


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes the bytes of a picture file as `read_image` does; `name` is what errors call it."""
    return decode_picture(data, name).rgb


def read_picture(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture file, upright (EXIF orientation applied).

    Palettes become RGB, samples of 16 bits are scaled to 8, CMYK and Lab are converted to sRGB by their profile
    (without one, CMYK by Pillow's formula).

    Raises ImageError for a file that is missing, broken or no picture, for one with several frames, for more than
    `max_pixels` (and for more than Pillow's limit against decompression bombs), and for floating-point samples.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from error
    return decode_picture(data, str(path), max_pixels)


def decode_picture(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decodes the bytes of a picture file as `read_picture` does; `name` is what errors call it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(f"{name} has {image.width}x{image.height} pixels, over the limit of {max_pixels:,}")
            # A photograph with its preview behind it (MPO) is one picture; every other format means its frames.
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise ImageError(f"{name} holds {frames} frames; give each one as a file of its own")
            return _from_pil(image, name)
    except TcmError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageError(f"{name} has too many pixels: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a picture in a format that Pillow reads") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file led them into.
        raise ImageError(f"{name} is broken: {error or type(error).__name__}") from error


def from_pil(image: Image.Image) -> Picture:
    """What the codec stores of a Pillow image of any mode. Raises ImageError for floating-point samples."""
    return _from_pil(image.copy(), "the picture")


def _from_pil(image: Image.Image, name: str) -> Picture:
    """Changes `image`: a large picture is not held twice."""
    ImageOps.exif_transpose(image, in_place=True)
    colour, alpha, converted = _planes(image, name)
    icc = b"" if converted else image.info.get("icc_profile") or b""
    if icc[16:20] != (b"GRAY" if colour.ndim == 2 else b"RGB "):
        icc = b""  # a profile of another kind of samples than these
    return Picture(colour, alpha, icc, (image.info.get("exif") or b"").removeprefix(EXIF_PREFIX))


def _planes(image: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """(colour, alpha, whether the colours were converted to sRGB)."""
    if image.mode == "F":
        raise ImageError(f"{name} has floating-point samples, whose range is unknown; convert it to 8 or 16 bits")
    if image.mode.startswith("I"):
        return *_grey16(image, name), False
    if image.mode in ("CMYK", "LAB"):
        return _array(_to_srgb(image)), None, True
    if image.mode in ("1", "L", "LA", "La"):
        grey, alpha = ("L", "LA")
    else:
        grey, alpha = ("RGB", "RGBA")
    if image.has_transparency_data:
        *colour, transparency = image.convert(alpha).split()
        return _array(Image.merge(grey, colour)), _array(transparency), False
    return _array(image if image.mode == grey else image.convert(grey)), None, False


def _array(image: Image.Image) -> np.ndarray:
    """Of mode L or RGB as uint8; by strips, as Pillow would hold a large picture three times on the way."""
    array = np.empty((image.height, image.width, 3) if image.mode == "RGB" else (image.height, image.width), np.uint8)
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        array[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return array


def _to_srgb(image: Image.Image) -> Image.Image:
    """CMYK or Lab to sRGB."""
    from PIL import ImageCms

    icc = image.info.get("icc_profile")
    if not icc and image.mode == "CMYK":
        return image.convert("RGB")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)) if icc else ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB")
    return transform.apply(image)


def _grey16(image: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(grey scaled to 8 bits, rounding to nearest where Pillow's own conversion clips at 255; alpha)."""
    grey = np.array(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(f"{name} has samples beyond 16 bits; convert it to 8 or 16 bits")
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else np.where(grey == transparent, 0, 255).astype(np.uint8)
    return ((grey + 128) // 257).astype(np.uint8), alpha


def to_pil(picture: Picture) -> Image.Image:
    """As a Pillow image of mode L, LA, RGB or RGBA, profile and EXIF in its `info`."""
    image = Image.fromarray(picture.array)
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = EXIF_PREFIX + picture.exif
    return image


def encode_png(picture: Picture) -> bytes:
    """The bytes of a PNG file, with the profile and EXIF."""
    buffer = io.BytesIO()
    options = {"icc_profile": picture.icc or None}
    if picture.exif:
        options["exif"] = picture.exif
    Image.fromarray(picture.array).save(buffer, "PNG", **options)
    return buffer.getvalue()


def write_png(path: str | os.PathLike, image: np.ndarray | Picture) -> None:
    """Writes a picture as a PNG, completely or not at all. Raises TcmError if the file cannot be written."""
    atomic_write(path, encode_png(Picture.of(image)))
