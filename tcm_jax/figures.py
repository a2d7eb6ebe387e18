"""Pictures for people: crops side by side, and the curves of a training run."""

import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.errors import DataError, MissingExtraError
from tcm_jax.image import atomic_write, write_png

_GAP = 12  # pixels between panels
_TEXT = 18  # pixels of a line of a label


def jpeg_of_size(image: np.ndarray, size: int) -> tuple[bytes, np.ndarray]:
    """The smallest JPEG (Pillow, 4:2:0, optimized) of at least `size` bytes, and the picture that it decodes to.

    uint8 [H, W, 3] -> (file, uint8 [H, W, 3]); the one of quality 95 if even that is smaller.
    """
    low, high = 1, 95
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(jpeg(image, middle)) >= size else (middle + 1, high)
    data = jpeg(image, low)
    return data, np.array(Image.open(io.BytesIO(data)))


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """A JPEG file of a uint8 [H, W, 3] picture: Pillow, 4:2:0, optimized Huffman tables."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0", optimize=True)
    return buffer.getvalue()


def comparison(panels: Sequence[np.ndarray], labels: Sequence[str], path: str | os.PathLike) -> None:
    """Writes a PNG of crops side by side with a label under each.

    `panels`: uint8 [H, W, 3], all of one size; a label may have several lines. Raises TcmError if `path` cannot be
    written.
    """
    height, width = panels[0].shape[:2]
    lines = max(label.count("\n") + 1 for label in labels)
    total = (len(panels) * (width + _GAP) - _GAP, height + _TEXT * lines + _TEXT // 2)
    sheet = Image.new("RGB", total, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT * 0.8)
    for i, (panel, label) in enumerate(zip(panels, labels, strict=True)):
        left = i * (width + _GAP)
        sheet.paste(Image.fromarray(panel), (left, 0))
        for row, text in enumerate(label.split("\n")):
            position = (left + width // 2, height + _TEXT * row + _TEXT // 4)
            draw.text(position, text, fill="black", font=font, anchor="ma")
    write_png(path, np.array(sheet))


def training_curves(metrics: str | os.PathLike, path: str | os.PathLike) -> None:
    """Writes a PNG of loss, bits per pixel and PSNR by step from a run's `metrics.jsonl`.

    Raises DataError for a file without metrics, MissingExtraError without matplotlib, TcmError if `path` cannot be
    written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError('training curves need matplotlib: pip install "tcm_jax[evaluation]"') from error
    try:
        rows = [json.loads(line) for line in Path(metrics).read_text().splitlines() if line.strip()]
        curves = {key: [_number(row[key]) for row in rows] for key in ("step", "loss", "bpp", "psnr")}
    except OSError as error:
        raise DataError(f"cannot read {metrics}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{metrics} is no metrics.jsonl of a training run: {error}") from error
    if not rows:
        raise DataError(f"{metrics} holds no metrics yet")
    figure = Figure(figsize=(12, 3.2), dpi=120, layout="constrained")
    panels = (("loss", "loss"), ("bpp", "bits per pixel"), ("psnr", "PSNR (dB)"))
    for axes, (key, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.plot(curves["step"], curves[key], linewidth=0.4, alpha=0.4, color="C0")
        axes.plot(curves["step"], _smooth(curves[key]), color="C0")
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.3)
    figure.axes[0].set_yscale("log")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(path, buffer.getvalue())


def _number(value: float | None) -> float:
    """JSON has no NaN: a skipped step's metrics are null."""
    return math.nan if value is None else float(value)


def _smooth(values: list[float]) -> np.ndarray:
    """Running mean over a fiftieth of the run, over what there is at its ends."""
    window = np.ones(max(len(values) // 50, 1) | 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
