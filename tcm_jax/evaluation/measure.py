"""What one codec makes of one picture: bytes, quality, seconds, as a row of a table."""

import dataclasses
import time
from typing import Any

import numpy as np

from tcm_jax.codec.effort import NO_EFFORT, Effort
from tcm_jax.codec.residual import layer
from tcm_jax.errors import StreamError
from tcm_jax.evaluation.codecs import OtherCodec
from tcm_jax.images.metrics import MS_SSIM_MIN_SIDE, ms_ssim, ms_ssim_db
from tcm_jax.images.psnr import mean_squared_error, psnr
from tcm_jax.images.ssimulacra2 import MIN_SIDE as SSIMULACRA2_MIN_SIDE
from tcm_jax.images.ssimulacra2 import ssimulacra2
from tcm_jax.model.config import padded_size

COLUMNS = (
    "name", "width", "height", "bytes", "bpp", "bpp_estimated", "bpp_tables", "bpp_streams", "bpp_sides", "mse",
    "psnr", "ms_ssim", "ms_ssim_db", "ssimulacra2", "encode_seconds", "decode_seconds", "error",
)  # fmt: skip


def failed_row(name: str, image: np.ndarray, error: Exception) -> dict[str, Any]:
    """The row (keys COLUMNS) of a picture that a codec fails on: None but for name, size and the error's first line."""
    lines = str(error).strip().splitlines()
    text = ": ".join([type(error).__name__, *lines[:1]])
    return dict.fromkeys(COLUMNS) | {"name": name, "width": image.shape[1], "height": image.shape[0], "error": text}


def measure_other(codec: OtherCodec, name: str, image: np.ndarray, quality: int) -> dict[str, Any]:
    """The row (keys COLUMNS) of a picture as a file of another codec; no estimated bits."""
    start = time.perf_counter()
    data = codec.compress(image, quality)
    middle = time.perf_counter()
    decoded = codec.decompress(data)
    end = time.perf_counter()
    bits = {key: None for key in ("bpp_estimated", "bpp_tables", "bpp_streams", "bpp_sides")}
    return _row(name, image, decoded, data, bits, (middle - start, end - middle))


@dataclasses.dataclass
class TcmMeter:
    """Measures a `Codec`; notes for which padded shapes and qualities all is compiled, and the seconds that took."""

    codec: Any
    warm: set[Any] = dataclasses.field(default_factory=set)

    def measure(
        self, name: str, image: np.ndarray, quality: float | None, effort: Effort = NO_EFFORT
    ) -> tuple[dict[str, Any], float]:
        """(the row of a picture with the keys COLUMNS, the seconds that a first run took longer than the second run).

        With an effort the first run has the least one, and the seconds of encoding hold those of the reconstruction.
        Raises StreamError if the decoded picture is not the encoder's own reconstruction.
        """
        shape = padded_size(*image.shape[:2])  # for which programs are compiled
        settings: dict[str, Any] = {} if quality is None else {"quality": quality}
        least = dataclasses.replace(effort, level=min(effort.level, 1))
        first_seconds = 0.0
        if (shape, quality, least) not in self.warm:
            start = time.perf_counter()
            layer.load()
            first_seconds = time.perf_counter() - start + sum(self._round_trip(image, settings, least)[2:])
            self.warm.add((shape, quality, least))
        coded, decoded, *seconds = self._round_trip(image, settings, effort)
        encoded = coded if effort.level else self.codec.encode(image, **settings)
        data = coded.data if effort.level else coded
        if encoded.data != data or not np.array_equal(decoded, encoded.reconstruction):
            raise StreamError(f"{name}: the decoded picture is not what the encoder reconstructs; please report this")
        bits = {
            "bpp_estimated": encoded.estimated_bits,
            "bpp_tables": encoded.table_bits,
            "bpp_streams": 8 * encoded.stream_bytes,
            "bpp_sides": 8 * encoded.sides_bytes,
        }
        row = _row(name, image, decoded, data, bits, seconds)
        return row, max(first_seconds - sum(seconds), 0.0)

    def _round_trip(
        self, image: np.ndarray, settings: dict[str, Any], effort: Effort
    ) -> tuple[Any, np.ndarray, float, float]:
        """The file, or with an effort the codec's `Encoded`; the decoded picture, and the seconds that each took."""
        start = time.perf_counter()
        if effort.level:
            coded = self.codec.encode(image, **settings, effort=effort)
        else:
            coded = self.codec.compress(image, **settings)
        middle = time.perf_counter()
        decoded = self.codec.decompress(coded.data if effort.level else coded)
        return coded, decoded, middle - start, time.perf_counter() - middle


def _row(name, image, decoded, data, bits, seconds) -> dict[str, Any]:
    height, width = image.shape[:2]
    pixels = width * height
    return {
        "name": name,
        "width": width,
        "height": height,
        "bytes": len(data),
        "bpp": 8 * len(data) / pixels,
        **{key: None if value is None else float(value) / pixels for key, value in bits.items()},
        **quality_of(image, decoded),
        "encode_seconds": seconds[0],
        "decode_seconds": seconds[1],
        "error": None,
    }


def quality_of(image: np.ndarray, decoded: np.ndarray) -> dict[str, float | None]:
    """{"mse", "psnr", "ms_ssim", "ms_ssim_db", "ssimulacra2"} of two uint8 [H, W, 3] pictures.

    None for MS-SSIM and SSIMULACRA 2 of a picture too small for them.
    """
    side, floats = min(image.shape[:2]), [x[None].astype(np.float32) / 255 for x in (image, decoded)]
    similarity = float(ms_ssim(*floats)[0]) if side >= MS_SSIM_MIN_SIDE else None
    return {
        "mse": mean_squared_error(image, decoded),
        "psnr": psnr(image, decoded),
        "ms_ssim": similarity,
        "ms_ssim_db": None if similarity is None else ms_ssim_db(similarity),
        "ssimulacra2": float(ssimulacra2(*floats)[0]) if side >= SSIMULACRA2_MIN_SIDE else None,
    }
