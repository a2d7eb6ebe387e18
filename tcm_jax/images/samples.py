"""Samples of every mode that Pillow has, as the codec stores them: grey or RGB of 8 bits, and alpha."""

import io

import numpy as np
from PIL import Image

from tcm_jax.images import bmp, metadata, png, tiff

_STRIP = 256  # rows


def planes(image: Image.Image, data: bytes, left_out: list[str]) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """(colour uint8 [H, W, 3] or grey [H, W], alpha uint8 [H, W] or None, whether colours were converted to sRGB).

    `data` is the file of the loaded `image` if that is known. An ICC profile that cannot convert, and a range that is
    not kept, are added to `left_out`.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return *_grey_of_any_range(image, left_out), False
    if image.mode in ("CMYK", "LAB"):
        if data[:4] == b"8BPS" and int.from_bytes(data[12:14]) > len(image.getbands()):
            left_out.append("transparency (Pillow does not give it)")
        return _array(_to_srgb(image, left_out)), None, True
    if image.mode in ("1", "L", "LA", "La"):
        grey, alpha = ("L", "LA")
    else:
        grey, alpha = ("RGB", "RGBA")
    if key := png.colour_key(data):
        colour = _array(image.convert(grey))
        return colour, key.alpha(colour, data), False
    if image.mode == "P" and image.palette is None:
        raise ValueError("it has no palette")
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


def _grey_of_any_range(image: Image.Image, left_out: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """(grey as 8 bits, rounded to the nearest, where Pillow's own conversion clips at 255; alpha).

    Integers are of 16 bits, floating-point samples of 0 to 1 or 0 to 255, if that holds them; else the lowest becomes
    0 and the highest 255.
    """
    grey = np.nan_to_num(np.array(image).astype(np.float64), posinf=0, neginf=0)
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else np.where(grey == transparent, 0, 255).astype(np.uint8)
    low, high = float(grey.min()), float(grey.max())
    usual = [(0.0, 1.0), (0.0, 255.0)] if image.mode == "F" else [(0.0, 65535.0)]
    first, last = next((span for span in usual if span[0] <= low and high <= span[1]), (low, high))
    if (first, last) != (0.0, 65535.0):
        left_out.append(f"range of samples ({first:g} to {last:g} became 0 to 255)")
    if tiff.white_is_zero(image):  # Pillow turns over those of 8 bits alone
        grey = first + last - grey
    scaled = (grey - first) * (255 / ((last - first) or 1))
    return np.floor(scaled + 0.5).astype(np.uint8), alpha
