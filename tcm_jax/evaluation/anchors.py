"""Published rate-distortion points: figures that others printed, each curve with its source (rd_points.json)."""

import dataclasses
import functools
import json
from pathlib import Path

from tcm_jax.images.metrics import ms_ssim_db
from tcm_jax.model.config import ModelConfig, reference_config

LABELS = {
    "vtm": "VTM (VVC)", "hm": "HM (HEVC)", "bpg_444_x265_ycbcr": "BPG 4:4:4", "av1": "AV1", "jpeg": "JPEG",
    "jpeg2000": "JPEG 2000", "webp": "WebP", "cheng2020-attn_mse": "Cheng 2020", "mbt2018_mse": "Minnen 2018",
    "mbt2018-mean_mse": "Minnen 2018 (mean)", "tcm-small": "TCM small", "tcm-medium": "TCM medium",
    "tcm-large": "TCM large",
}  # fmt: skip
# The number of pictures that a data set must have to be the one that the points were measured on.
PICTURES = {"kodak": 24, "clic2020-professional": 41, "tecnick": 100}
TCM_SIZES = {64: "tcm-small", 96: "tcm-medium", 128: "tcm-large"}  # by N


@dataclasses.dataclass(frozen=True)
class Published:
    """A published curve. PSNR: RGB, dB, mean over the pictures; MS-SSIM: linear, mean, or None where not published."""

    name: str
    label: str
    source: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]
    ms_ssim: tuple[float, ...] | None

    @property
    def ms_ssim_db(self) -> tuple[float, ...] | None:
        """MS-SSIM in decibels, of the means."""
        return None if self.ms_ssim is None else tuple(ms_ssim_db(value) for value in self.ms_ssim)


@functools.cache
def published(dataset: str) -> dict[str, Published]:
    """Published curves on "kodak", "clic2020-professional" or "tecnick" by name; empty for other data sets."""
    file = Path(__file__).parent / "rd_points.json"
    points = json.loads(file.read_text(encoding="utf-8"))["datasets"].get(dataset, {})
    return {
        name: Published(name, LABELS[name], curve["source"], tuple(curve["bpp"]), tuple(curve["psnr"]),
                        tuple(curve["ms_ssim"]) if "ms_ssim" in curve else None)
        for name, curve in points.items()
    }  # fmt: skip


def anchors_of(dataset: str, pictures: int) -> dict[str, Published]:
    """`published(dataset)` if it has as many pictures as the published set, so that a part of it is not compared."""
    return published(dataset) if PICTURES.get(dataset) == pictures else {}


def nearest_point(config: ModelConfig, bpp: float) -> dict[str, str | float] | None:
    """The authors' Kodak point nearest in bits per pixel, if `config` is one of the reference's three networks."""
    for n, name in TCM_SIZES.items():
        if config == reference_config(n):
            curve = published("kodak")[name]
            rate, psnr = min(zip(curve.bpp, curve.psnr, strict=True), key=lambda point: abs(point[0] - bpp))
            return {"name": curve.label, "data": "kodak", "bpp": rate, "psnr": psnr}
    return None
