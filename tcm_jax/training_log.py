"""What a training run shows and writes down while it runs."""

import json
import time
from pathlib import Path

import jax
import ml_collections


class MetricsLog:
    """Appends metrics to a JSON-lines file every `log_every` steps and shows a progress bar."""

    def __init__(self, path: Path, done: int, config: ml_collections.ConfigDict):
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if line.strip() and json.loads(line)["step"] <= done]
        path.write_text("".join(line + "\n" for line in kept))
        self.file = path.open("a")
        self.every, self.pending, self.images = config.log_every, None, config.data.batch_size
        columns = (TextColumn("step {task.completed:,}/{task.total:,}"), BarColumn(), TextColumn("{task.description}"))
        self.progress = Progress(*columns, TimeRemainingColumn())
        self.task = self.progress.add_task("compiling", total=config.steps, completed=done)
        self.time, self.step = None, done

    def __enter__(self) -> "MetricsLog":
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._write()
        self.progress.stop()
        self.file.close()

    def add(self, step: int, parts: dict[str, jax.Array]) -> None:
        """Notes the metrics of a step; those of the step before are read and written now."""
        self._write()
        self.pending = (step, parts)

    def _write(self) -> None:
        if self.pending is None:
            return
        step, parts = self.pending
        self.pending = None
        if step % self.every:
            return
        parts = {name: round(float(value), 7) for name, value in parts.items()}
        now = time.perf_counter()
        if self.time is not None:
            parts["images_per_second"] = round((step - self.step) * self.images / (now - self.time), 3)
        self.time, self.step = now, step
        self.file.write(json.dumps({"step": step, **parts}) + "\n")
        self.file.flush()
        text = f"loss {parts['loss']:.3f}  bpp {parts['bpp']:.3f}  PSNR {parts['psnr']:.2f} dB"
        self.progress.update(self.task, completed=step, description=text)
