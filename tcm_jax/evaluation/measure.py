"""What one codec makes of one picture: bytes, quality, seconds, as a row of a table."""

import dataclasses
import io
import time
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from tcm_jax.errors import MissingExtraError, StreamError
from tcm_jax.evaluation.codecs import OtherCodec
from tcm_jax.images.metrics import MS_SSIM_MIN_SIDE, ms_ssim, ms_ssim_db, psnr

COLUMNS = (
    "name", "width", "height", "bytes", "bpp", "bpp_estimated", "bpp_tables", "bpp_streams", "bpp_corrections", "mse",
    "psnr", "ms_ssim", "ms_ssim_db", "ssimulacra2", "encode_seconds", "decode_seconds",
)  # fmt: skip
SSIMULACRA2_MIN_SIDE = 8
_TILE = 128  # Pictures are padded to multiples of this before anything is compiled for their shape.


def measure_other(codec: OtherCodec, name: str, image: np.ndarray, quality: int, perceptual: bool) -> dict[str, Any]:
    """The row (keys COLUMNS) of a picture as a file of another codec; no estimated bits."""
    start = time.perf_counter()
    data = codec.compress(image, quality)
    middle = time.perf_counter()
    decoded = codec.decompress(data)
    end = time.perf_counter()
    bits = {key: None for key in ("bpp_estimated", "bpp_tables", "bpp_streams", "bpp_corrections")}
    return _row(name, image, decoded, data, bits, (middle - start, end - middle), perceptual)


@dataclasses.dataclass
class TcmMeter:
    """Measures a `Codec`; notes which padded shapes it has compiled for, and the seconds that compilation took."""

    codec: Any
    warm: set[tuple[int, ...]] = dataclasses.field(default_factory=set)

    def measure(
        self, name: str, image: np.ndarray, quality: float | None, perceptual: bool
    ) -> tuple[dict[str, Any], float]:
        """(the row of a picture with the keys COLUMNS, what a first run took longer than a second).

        Raises StreamError if the decoded picture is not the encoder's own reconstruction.
        """
        shape = tuple(-(-side // _TILE) for side in image.shape[:2])
        first_seconds = 0.0 if shape in self.warm else sum(self._round_trip(image, quality)[2:])
        self.warm.add(shape)
        data, decoded, *seconds = self._round_trip(image, quality)
        encoded = self.codec.encode(image, **_quality(quality))
        if encoded.data != data or not np.array_equal(decoded, encoded.reconstruction):
            raise StreamError(f"{name}: the decoded picture is not what the encoder reconstructs; please report this")
        bits = {
            "bpp_estimated": encoded.estimated_bits,
            "bpp_tables": encoded.table_bits,
            "bpp_streams": 8 * encoded.stream_bytes,
            "bpp_corrections": 8 * encoded.correction_bytes,
        }
        row = _row(name, image, decoded, data, bits, seconds, perceptual)
        return row, max(first_seconds - sum(seconds), 0.0)

    def _round_trip(self, image: np.ndarray, quality: float | None) -> tuple[bytes, np.ndarray, float, float]:
        """The file, the decoded picture, and the seconds that each took."""
        start = time.perf_counter()
        data = self.codec.compress(image, **_quality(quality))
        middle = time.perf_counter()
        decoded = self.codec.decompress(data)
        return data, decoded, middle - start, time.perf_counter() - middle


def _quality(quality: float | None) -> dict[str, float]:
    return {} if quality is None else {"quality": quality}


def _row(name, image, decoded, data, bits, seconds, perceptual) -> dict[str, Any]:
    height, width = image.shape[:2]
    pixels = width * height
    return {
        "name": name,
        "width": width,
        "height": height,
        "bytes": len(data),
        "bpp": 8 * len(data) / pixels,
        **{key: None if value is None else float(value) / pixels for key, value in bits.items()},
        **quality_of(image, decoded, perceptual),
        "encode_seconds": seconds[0],
        "decode_seconds": seconds[1],
    }


def quality_of(image: np.ndarray, decoded: np.ndarray, perceptual: bool) -> dict[str, float | None]:
    """{"mse", "psnr", "ms_ssim", "ms_ssim_db", "ssimulacra2"} of two uint8 [H, W, 3] pictures.

    None for MS-SSIM of a picture too small for it, and for SSIMULACRA 2 unless `perceptual`.
    """
    similarity = _ms_ssim_of_bytes(image, decoded) if min(image.shape[:2]) >= MS_SSIM_MIN_SIDE else None
    return {
        "mse": float(np.mean(np.square(image.astype(np.float64) - decoded.astype(np.float64)))),
        "psnr": psnr(image, decoded),
        "ms_ssim": similarity,
        "ms_ssim_db": None if similarity is None else ms_ssim_db(similarity),
        "ssimulacra2": ssimulacra2(image, decoded) if perceptual else None,
    }


def _ms_ssim_of_bytes(a: np.ndarray, b: np.ndarray) -> float:
    return float(ms_ssim(*(image[None].astype(np.float32) / 255 for image in (a, b)))[0])


def check_perceptual() -> None:
    """Raises MissingExtraError if SSIMULACRA 2 cannot be computed."""
    if find_spec("ssimulacra2") is None:
        raise MissingExtraError('SSIMULACRA 2 needs its package: pip install "tcm_jax[evaluation]"')


def ssimulacra2(a: np.ndarray, b: np.ndarray) -> float | None:
    """SSIMULACRA 2 of two uint8 [H, W, 3] pictures, at most 100 (equal); None if a side has under 8 pixels.

    Computed by the package `ssimulacra2`. Raises MissingExtraError without it.
    """
    check_perceptual()
    from ssimulacra2 import compute_ssimulacra2

    if min(a.shape[:2]) < SSIMULACRA2_MIN_SIDE:
        return None
    files = [io.BytesIO() for _ in range(2)]
    for file, image in zip(files, (a, b), strict=True):
        Image.fromarray(image).save(file, "PPM")
        file.seek(0)
    return float(compute_ssimulacra2(*files))
