"""What a training run would see: a batch to look at, and how fast pictures are read."""

import time
from pathlib import Path

import ml_collections
import numpy as np

from tcm_jax.errors import TcmError
from tcm_jax.images.pictures import write_png
from tcm_jax.training.batches import open_batches
from tcm_jax.training.check import check


def dry_run(config: ml_collections.ConfigDict, workdir: Path, batches: int = 20) -> tuple[Path, float]:
    """(contact sheet of a batch as a PNG, pictures per second of the input pipeline alone)."""
    check(config)
    pipeline = open_batches(config)
    first = next(pipeline)
    started = time.perf_counter()
    for _ in range(batches):
        next(pipeline)
    speed = batches * config.data.batch_size / (time.perf_counter() - started)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TcmError(f"cannot make the folder {workdir}: {error.strerror or error}") from error
    write_png(workdir / "contact_sheet.png", contact_sheet(first))
    return workdir / "contact_sheet.png", speed


def contact_sheet(batch: np.ndarray) -> np.ndarray:
    """Pictures uint8 [B, H, W, 3] side by side in rows, in one."""
    columns = int(np.ceil(len(batch) ** 0.5))
    blank = np.full((-len(batch) % columns, *batch.shape[1:]), 255, np.uint8)
    rows = np.concatenate([batch, blank]).reshape(-1, columns, *batch.shape[1:])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
