"""What a training run shows and writes down: the progress bar, metrics.jsonl, validation.jsonl, TensorBoard."""

import json
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from tcm_jax.errors import DataError, MissingExtraError
from tcm_jax.images import figures
from tcm_jax.system.files import atomic_write
from tcm_jax.system.names import say
from tcm_jax.training.flops import peak_flops, training_flops

log = logging.getLogger(__name__)


class RunLog:
    """metrics.jsonl, validation.jsonl, TensorBoard and the progress bar. Only the first host's writes and shows.

    A run that goes on from step `done` first drops what was written about later steps.
    """

    def __init__(self, workdir: Path, done: int, config: ml_collections.ConfigDict):
        self._workdir, self._config, self._active = workdir, config, jax.process_index() == 0
        self._flops = training_flops(config) * config.data.batch_size if peak_flops() else None
        self._done = done

    def __enter__(self) -> "RunLog":
        if self._active:
            from tensorboardX import SummaryWriter

            self._open_files(self._done)
            self._board = SummaryWriter(str(self._workdir / "tensorboard"), purge_step=self._done + 1)
            self._show_progress()
        self._start_interval(self._done)
        return self

    def _open_files(self, done: int) -> None:
        self._metrics = _reopen(self._workdir / "metrics.jsonl", done)
        self._validation = _reopen(self._workdir / "validation.jsonl", done)

    def _show_progress(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("step {task.completed:,}/{task.total:,}"), BarColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, TimeRemainingColumn())
        self._task = self._progress.add_task("first step", total=self._config.steps, completed=self._done)
        self._progress.start()

    def __exit__(self, *_) -> None:
        if self._active:
            self._progress.stop()
            self._board.close()
            self._metrics.close()
            self._validation.close()

    def wait_for(self, get: Callable[[], Any]) -> Any:
        """Returns `get()`, whose time counts as waiting for data."""
        started = time.perf_counter()
        value = get()
        self._waiting += time.perf_counter() - started
        return value

    def end_pause(self) -> None:
        """Leaves the time since the last step (validation, saving) out of the steps' time."""
        self._start_interval(self._interval_start + self._interval_steps)

    def _start_interval(self, step: int) -> None:
        self._interval_start, self._interval_steps, self._waiting, self._time = step, 0, 0.0, time.perf_counter()

    def go_back(self, step: int) -> None:
        """Drops what was written about steps after `step`, from which the run goes on."""
        if self._active:
            self._metrics.close()
            self._validation.close()
            self._open_files(step)
        self._start_interval(step)

    def add(self, step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
        """The metrics of `step` as numbers (this waits for the device); every `log_every` steps they are written."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self._interval_steps = step - self._interval_start
        if step % self._config.log_every == 0:
            self._write(step, values)
            self._start_interval(step)
        return values

    def _write(self, step: int, values: dict[str, float]) -> None:
        if not self._active:
            return
        row = values | self._speed() if self._interval_steps else values
        self._metrics.write(_line(step, row))
        self._metrics.flush()
        self._add_scalars("train", row, step)
        text = f"loss {row['loss']:.3f}  bpp {row['bpp']:.3f}  PSNR {row['psnr']:.2f} dB"
        if "images_per_second" in row:
            text += f"  {row['images_per_second']:.3g} images/s"
        self._progress.update(self._task, completed=step, description=text)
        if not self._progress.console.is_terminal:
            say(f"step {step:,}/{self._config.steps:,}  {text}", sys.stdout)

    def _add_scalars(self, group: str, row: dict[str, float], step: int) -> None:
        for name, value in row.items():
            if math.isfinite(value):
                self._board.add_scalar(f"{group}/{name}", value, step)

    def _speed(self) -> dict[str, float]:
        """Step time, images per second, share of the time spent waiting for data, and FLOP utilization."""
        seconds = time.perf_counter() - self._time
        row = {
            "step_seconds": seconds / self._interval_steps,
            "images_per_second": self._interval_steps * self._config.data.batch_size / seconds,
            "data_wait": self._waiting / seconds,
        }
        if self._flops and (peak := peak_flops()):
            row["flop_utilization"] = self._flops / row["step_seconds"] / (peak * jax.device_count())
        return row

    def write_validation(self, step: int, row: dict[str, float], pictures: list[np.ndarray]) -> None:
        """Writes the result of a validation."""
        if not self._active:
            return
        self._validation.write(_line(step, row))
        self._validation.flush()
        self._add_scalars("validation", row, step)
        for i, picture in enumerate(pictures[:4]):
            self._board.add_image(f"validation/{i}", picture, step, dataformats="HWC")
        log.info(
            "step %d: validation loss %.3f, %.4f bpp in files (%.4f estimated), %.2f dB",
            step, row["loss"], row["bpp"], row["bpp_estimated"], row["psnr"],
        )  # fmt: skip

    def draw_curves(self) -> None:
        """curves.png beside the metrics, where matplotlib is installed and something was logged."""
        try:
            figures.training_curves(self._workdir / "metrics.jsonl", self._workdir / "curves.png")
        except (MissingExtraError, DataError) as error:
            log.warning("no curves.png: %s", error)


def _line(step: int, row: dict[str, float]) -> str:
    """A line of JSON with seven significant digits, as many as float32 has; null for what is not finite."""
    rounded = {name: float(f"{value:.7g}") if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps({"step": step, **rounded}) + "\n"


def _reopen(path: Path, done: int) -> Any:
    """`path` opened for appending, without lines of steps after `done` and without a line cut short."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):  # killed while it was written
            continue
        if step <= done:
            kept.append(line + "\n")
    atomic_write(path, "".join(kept).encode())
    return path.open("a", encoding="utf-8")
