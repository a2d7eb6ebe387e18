"""Figures drawn with matplotlib: training runs, and what `analysis` finds in a network."""

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.errors import DataError
from tcm_jax.system.extras import require_extra
from tcm_jax.system.files import atomic_write


def check() -> type:
    """The class of matplotlib's figures; raises MissingExtraError without matplotlib."""
    with require_extra("evaluation", "figures need matplotlib"):
        from matplotlib.figure import Figure

    return Figure


def _new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of inches. Raises MissingExtraError without matplotlib."""
    return check()(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Any, path: str | os.PathLike) -> None:
    """Writes the figure as a PNG. Raises TcmError if it cannot be written."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(path, buffer.getvalue())


def _show(axes: Any, image: np.ndarray, title: str, **options: Any) -> Any:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    return axes.imshow(image, **options)


def receptive_fields(
    image: np.ndarray, point: tuple[int, int], fields: Mapping[str, np.ndarray], thresholds: Sequence[float],
    path: str | os.PathLike,
) -> None:  # fmt: skip
    """Writes a PNG: the picture [H, W, 3] with the point (x, y); for each name, its field [H, W] clipped at thresholds.

    Raises MissingExtraError, TcmError.
    """
    height = 2.6 * image.shape[0] / image.shape[1] + 0.35
    figure = _new_figure(2.6 * (len(fields) + 1), height * len(thresholds))
    grid = figure.subplots(len(thresholds), len(fields) + 1, squeeze=False)
    for row, threshold in zip(grid, thresholds, strict=True):
        _show(row[0], image, f"({point[0]}, {point[1]})\nclipped at {threshold:g}")
        row[0].plot(*point, "o", color="red", markersize=5, markeredgecolor="white")
        for axes, (name, field) in zip(row[1:], fields.items(), strict=True):
            share = 100 * float((field > threshold).mean())
            _show(
                axes, np.minimum(field, threshold), f"{name}\n{share:.1f} % above", cmap="magma", vmin=0, vmax=threshold
            )
    _save(figure, path)


def deviations(image: np.ndarray, maps: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """Writes a PNG: the picture, and for each name the relative deviation of y_hat from y [h, w], on one scale.

    Raises MissingExtraError, TcmError.
    """
    figure = _new_figure(3.4 * (len(maps) + 1), 3.4 * image.shape[0] / image.shape[1] + 0.4)
    axes = figure.subplots(1, len(maps) + 1, squeeze=False)[0]
    _show(axes[0], image, "picture")
    largest = max(float(one.max()) for one in maps.values())
    for panel, (name, one) in zip(axes[1:], maps.items(), strict=True):
        shown = _show(panel, one, f"{name}: mean {one.mean():.4f}", cmap="viridis", vmin=0, vmax=largest)
    figure.colorbar(shown, ax=axes, shrink=0.8, label="|y_hat - y| over the mean |y|")
    _save(figure, path)


def bit_maps(image: np.ndarray, slices: np.ndarray, hyper: np.ndarray, path: str | os.PathLike) -> None:
    """Writes a PNG: bits by latent position over the picture, of all slices, each slice [slices, h, w], and z [h', w'].

    Raises MissingExtraError, TcmError.
    """
    panels = [
        ("y, all slices", slices.sum(0)),
        *((f"slice {i + 1}", one) for i, one in enumerate(slices)),
        ("z", hyper),
    ]
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = _new_figure(3.2 * columns, rows * (3.2 * image.shape[0] / image.shape[1] + 0.35))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    total = slices.sum() + hyper.sum()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, bits) in zip(grid, panels, strict=False):
        extent = (0, image.shape[1], image.shape[0], 0)
        axes.imshow(image, extent=extent)
        shown = _show(axes, bits, f"{name}: {bits.sum():,.0f} bits, {100 * bits.sum() / total:.0f} %", cmap="inferno",
                      alpha=0.75, extent=extent, vmin=0)  # fmt: skip
        figure.colorbar(shown, ax=axes, shrink=0.7)
    _save(figure, path)


def channel_energy(energies: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """Writes a PNG: for each name the share of the energy in the strongest channels, and each channel's [C], sorted.

    Raises MissingExtraError, TcmError.
    """
    figure = _new_figure(9, 3.4)
    left, right = figure.subplots(1, 2)
    for name, energy in energies.items():
        strongest = np.sort(energy)[::-1]
        places = np.arange(1, len(energy) + 1)
        left.plot(places, strongest, label=name)
        right.plot(places, 100 * np.cumsum(strongest) / strongest.sum(), label=name)
    left.set(yscale="log", xlabel="channel, strongest first", title="mean of y squared")
    right.set(xlabel="channels, strongest first", ylabel="%", title="share of the energy", ylim=(0, 102))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def training_curves(metrics: str | os.PathLike, path: str | os.PathLike) -> None:
    """Writes a PNG of loss, bits per pixel and PSNR by step from a run's `metrics.jsonl`.

    Raises DataError for a file without metrics, MissingExtraError without matplotlib, TcmError if `path` cannot be
    written.
    """
    try:
        rows = [json.loads(line) for line in Path(metrics).read_text(encoding="utf-8").splitlines() if line.strip()]
        curves = {key: [_number(row[key]) for row in rows] for key in ("step", "loss", "bpp", "psnr")}
    except OSError as error:
        raise DataError(f"cannot read {metrics}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{metrics} is no metrics.jsonl of a training run: {error}") from error
    if not rows:
        raise DataError(f"{metrics} holds no metrics yet")
    figure = _new_figure(12, 3.2)
    panels = (("loss", "loss"), ("bpp", "bits per pixel"), ("psnr", "PSNR (dB)"))
    for axes, (key, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.plot(curves["step"], curves[key], linewidth=0.4, alpha=0.4, color="C0")
        axes.plot(curves["step"], _smooth(curves[key]), color="C0")
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.3)
    figure.axes[0].set_yscale("log")
    _save(figure, path)


def _number(value: float | None) -> float:
    """A metric as a float; NaN for the null of a skipped step, as JSON has no NaN."""
    return math.nan if value is None else float(value)


def _smooth(values: list[float]) -> np.ndarray:
    """Running mean over a fiftieth of the run, over what there is at its ends."""
    window = np.ones(max(len(values) // 50, 1) | 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
