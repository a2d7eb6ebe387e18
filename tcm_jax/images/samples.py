"""Samples of every mode that Pillow has, as the codec stores them: grey or RGB of 8 bits, and alpha."""

import io

import numpy as np
from PIL import Image

from tcm_jax.errors import ImageError
from tcm_jax.images import bmp, metadata, png

_STRIP = 256  # rows


def planes(
    image: Image.Image, name: str, data: bytes, left_out: list[str]
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """(colour uint8 [H, W, 3] or grey [H, W], alpha uint8 [H, W] or None, whether colours were converted to sRGB).

    `name` is what errors call the loaded `image`, `data` its file if that is known; an ICC profile that cannot convert
    is added to `left_out`. Raises ImageError for samples whose range is unknown.
    """
    if image.mode == "F":
        raise ImageError(f"{name} has floating-point samples, whose range is unknown; convert it to 8 or 16 bits")
    if image.mode.startswith("I"):
        return *_grey16(image, name), False
    if image.mode in ("CMYK", "LAB"):
        return _array(_to_srgb(image, left_out)), None, True
    if image.mode in ("1", "L", "LA", "La"):
        grey, alpha = ("L", "LA")
    else:
        grey, alpha = ("RGB", "RGBA")
    if key := png.colour_key(data):
        colour = _array(image.convert(grey))
        return colour, key.alpha(colour, data), False
    if image.has_transparency_data:
        *colours, transparency = image.convert(alpha).split()
        return _array(Image.merge(grey, colours)), _array(transparency), False
    return _array(image if image.mode == grey else image.convert(grey)), bmp.alpha(data), False


def _array(image: Image.Image) -> np.ndarray:
    """An image of mode L or RGB as uint8; by strips, as Pillow would hold a large picture three times on the way."""
    array = np.empty((image.height, image.width, 3) if image.mode == "RGB" else (image.height, image.width), np.uint8)
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        array[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return array


def _to_srgb(image: Image.Image, left_out: list[str]) -> Image.Image:
    """Converts an image from CMYK or Lab to sRGB."""
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    if icc := metadata.as_bytes(image.info.get("icc_profile")):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            return ImageCms.buildTransform(profile, srgb, image.mode, "RGB").apply(image)
        except (ImageCms.PyCMSError, OSError) as error:
            left_out.append(f"ICC profile ({error})")
    if image.mode == "CMYK":
        return image.convert("RGB")
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), srgb, "LAB", "RGB").apply(image)


def _grey16(image: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(grey scaled to 8 bits, rounding to nearest where Pillow's own conversion clips at 255; alpha)."""
    grey = np.array(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(f"{name} has samples beyond 16 bits; convert it to 8 or 16 bits")
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else np.where(grey == transparent, 0, 255).astype(np.uint8)
    return ((grey + 128) // 257).astype(np.uint8), alpha
