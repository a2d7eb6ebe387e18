"""Other codecs on the same pictures: JPEG, WebP, AVIF, JPEG 2000 and JPEG XL, as files that Pillow writes and reads."""

import dataclasses
import io
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image, features

from tcm_jax.errors import ConfigError, MissingExtraError
from tcm_jax.system.extras import require_extra

JPEG2000_DECIBELS = "PSNR target 20 + quality / 4 dB"


@dataclasses.dataclass(frozen=True)
class OtherCodec:
    """One format with fixed settings; only the quality, 1 to 100, changes."""

    name: str
    label: str
    settings: str  # what a reader needs to repeat the files
    format: str  # as Pillow calls it
    feature: str  # Pillow's name of its library; "" for a plug-in
    options: Callable[[int], dict[str, Any]]
    ladder: tuple[int, ...]  # six qualities from about 0.1 to 2 bits per pixel
    shown_by_browsers: bool = True

    def compress(self, image: np.ndarray, quality: int) -> bytes:
        """A real file, header included, of a uint8 [H, W, 3] picture."""
        self.check()
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, self.format, **self.options(quality))
        return buffer.getvalue()

    def decompress(self, data: bytes) -> np.ndarray:
        """The picture in a file of `compress`: uint8 [H, W, 3]."""
        self.check()
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(picture.convert("RGB"))

    def check(self) -> None:
        """Raises MissingExtraError if this installation cannot write the format."""
        if self.format == "JXL":
            with require_extra("evaluation", "JPEG XL needs pillow-jxl-plugin"):
                import pillow_jxl  # noqa: F401  registers the format
        elif not features.check(self.feature):
            raise MissingExtraError(f"this Pillow was built without {self.label}; install one from a wheel: pip "
                                    "install --force-reinstall --only-binary=:all: pillow")  # fmt: skip

    @property
    def library(self) -> str:
        """The library and its version."""
        if self.format == "JXL":
            return f"pillow-jxl-plugin {version('pillow-jxl-plugin')}"
        if self.format == "JPEG" and features.check("libjpeg_turbo"):
            return f"libjpeg-turbo {features.version('libjpeg_turbo')}"
        return f"{self.feature} {features.version(self.feature)}"

    @property
    def key(self) -> str:
        """All that decides the bytes but picture and quality: a cached result holds as long as this is the same."""
        return f"{self.label}; {self.settings}; {self.library}; Pillow {version('pillow')}"


def _jpeg(chroma: str) -> Callable[[int], dict[str, Any]]:
    return lambda quality: {"quality": quality, "subsampling": chroma, "optimize": True}


def _avif(chroma: str, **advanced: str) -> Callable[[int], dict[str, Any]]:
    return lambda quality: {"quality": quality, "subsampling": chroma, "speed": 6, "advanced": advanced}


_JPEG_LADDER, _AVIF_LADDER = (5, 10, 20, 40, 60, 80), (5, 20, 35, 50, 65, 80)
OTHER_CODECS = {
    codec.name: codec
    for codec in (
        OtherCodec("jpeg", "JPEG 4:2:0", "baseline, optimized Huffman tables, 4:2:0", "JPEG", "jpg",
                   _jpeg("4:2:0"), _JPEG_LADDER),
        OtherCodec("jpeg444", "JPEG 4:4:4", "baseline, optimized Huffman tables, 4:4:4", "JPEG", "jpg",
                   _jpeg("4:4:4"), _JPEG_LADDER),
        OtherCodec("webp", "WebP 4:2:0", "lossy, method 6, 4:2:0 (it has no other)", "WEBP", "webp",
                   lambda quality: {"quality": quality, "method": 6}, (1, 10, 30, 50, 75, 90)),
        OtherCodec("avif", "AVIF 4:2:0", "speed 6, 4:2:0, 8 bits, tuned for the eye", "AVIF", "avif",
                   _avif("4:2:0"), _AVIF_LADDER),
        OtherCodec("avif444", "AVIF 4:4:4", "speed 6, 4:4:4, 8 bits, tuned for the eye", "AVIF", "avif",
                   _avif("4:4:4"), _AVIF_LADDER),
        OtherCodec("avif444psnr", "AVIF 4:4:4 for PSNR", "speed 6, 4:4:4, 8 bits, aom's tune=psnr", "AVIF", "avif",
                   _avif("4:4:4", tune="psnr"), _AVIF_LADDER),
        OtherCodec("jpeg2000", "JPEG 2000", f"9/7 wavelet, colour transform, 4:4:4, {JPEG2000_DECIBELS}", "JPEG2000",
                   "jpg_2000", lambda quality: {"irreversible": True, "mct": 1, "quality_mode": "dB",
                                                "quality_layers": [20 + quality / 4]},
                   (10, 20, 30, 40, 55, 70), shown_by_browsers=False),
        OtherCodec("jpegxl", "JPEG XL", "lossy (XYB) below quality 100, effort 7, 4:4:4", "JXL", "",
                   lambda quality: {"quality": quality, "effort": 7, "lossless": quality == 100},
                   (1, 10, 25, 50, 70, 85), shown_by_browsers=False),
    )
}  # fmt: skip


def other_codec(name: str) -> OtherCodec:
    """The codec called `name`; raises ConfigError for an unknown one, MissingExtraError for one not installed."""
    if name not in OTHER_CODECS:
        raise ConfigError(f"there is no codec {name!r}; choose from {', '.join(OTHER_CODECS)}")
    OTHER_CODECS[name].check()
    return OTHER_CODECS[name]


def file_of_size(codec: OtherCodec, image: np.ndarray, size: int) -> tuple[int, bytes]:
    """(quality, file): the lowest quality whose file has at least `size` bytes, or quality 100.

    Found by bisection, as if sizes grew with the quality; where they do not, a neighbour may be nearer.
    """
    low, high, files = 1, 100, {}
    while low < high:
        middle = (low + high) // 2
        files[middle] = codec.compress(image, middle)
        low, high = (low, middle) if len(files[middle]) >= size else (middle + 1, high)
    return low, files.get(low) or codec.compress(image, low)
