"""Sweeps: every picture of every data set at every operating point, in several processes; measured rows are kept."""

import dataclasses
import functools
import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tcm_jax import ops
from tcm_jax.codec import Codec
from tcm_jax.codec.effort import Effort
from tcm_jax.errors import TcmError
from tcm_jax.evaluation.codecs import other_codec
from tcm_jax.evaluation.measure import COLUMNS, TcmMeter, failed_row, measure_other
from tcm_jax.evaluation.provenance import source_digest
from tcm_jax.images.datasets import open_dataset, short_names
from tcm_jax.images.metrics import ms_ssim_db
from tcm_jax.images.sources import ImageSource
from tcm_jax.system import signals
from tcm_jax.system.cache import read_json, remove
from tcm_jax.system.devices import default_device
from tcm_jax.system.files import atomic_write, writing
from tcm_jax.system.memory import peak_resident_bytes
from tcm_jax.system.process import tune_process
from tcm_jax.training.open_weights import open_weights

# What decides a row: a change in one of these files and folders makes cached rows stale.
_MEASURING = ("evaluation/measure.py", "images")
_ENTRY = ("row", "compile_seconds", "peak_memory", "device_memory")  # what the file of a row holds
_CODING = ("codec", "weights", "model", "entropy", "ops", "system")
_PATIENCE = 5.0  # seconds for a worker to take away what is half done


@dataclasses.dataclass(frozen=True)
class Point:
    """An operating point: `codec` is "tcm", with `weights` as `open_weights` takes them, or another codec's name.

    `effort` and `tune` are those of `codec.effort.Effort`.
    """

    codec: str
    quality: float | None = None
    weights: str | None = None
    coder: str = "auto"
    effort: int = 0
    tune: str | None = None


@dataclasses.dataclass(frozen=True)
class _Job:
    data: str
    index: int
    name: str
    point: Point
    file: Path  # where the row goes


@dataclasses.dataclass(frozen=True)
class Rows:
    """The measured rows of a sweep, one JSON file each in `folder`, named by what decides them on one machine.

    So many `processes` share its cores, and a range coder is faster than another: both decide the seconds.
    """

    folder: Path
    processes: int

    def file(self, point: Point, image: np.ndarray) -> Path:
        """Where the row of a picture at a point is, or would be."""
        digest = hashlib.sha256(image.data).hexdigest()
        key = [coder_key(point.codec, point.weights), point.quality, *image.shape, digest, point.coder, self.processes]
        key += [point.effort, point.tune] if point.effort else []
        return self.folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:40]}.json"


@functools.cache
def coder_key(codec: str, weights: str | None) -> str:
    """All that decides a codec's files and pictures but the quality and the picture."""
    if codec != "tcm":
        return f"{other_codec(codec).key}; {source_digest(*_MEASURING, 'evaluation/codecs.py')}"
    identity, digest = loaded_weights(weights).identity, source_digest(*_MEASURING, *_CODING)
    return f"tcm {identity}; jax {jax.__version__} {ops.current().platform}; {digest}"


@functools.lru_cache(maxsize=8)
def loaded_weights(path: str | None) -> Any:
    """What `open_weights` gives, opened once a process."""
    return open_weights(path)


def model_name(point: Point) -> str:
    """What a point's weights, and the effort with them, are called."""
    effort = f", effort {point.effort}" if point.effort else ""
    tune = f" for {point.tune}" if effort and point.tune else ""
    return loaded_weights(point.weights).name + effort + tune


@functools.lru_cache(maxsize=8)
def dataset(spec: str) -> ImageSource:
    """What `open_dataset` gives, opened once a process."""
    return open_dataset(spec)


@functools.lru_cache(maxsize=1)  # points come weights by weights
def _meter(weights: str | None, coder: str) -> TcmMeter:
    return TcmMeter(Codec(loaded_weights(weights), coder=coder))


def measure_all(
    data: Sequence[str],
    points: Sequence[Point],
    folder: Path,
    processes: int = 1,
    on_progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> dict[tuple[str, Point], list[dict[str, Any]]]:
    """Measures what `folder` does not hold yet; returns {(data set, point): entries in the pictures' order}.

    An entry is {"row": keys COLUMNS, "compile_seconds", "peak_memory", "device_memory", "computed"}. Rows are written
    as they are measured, so that an interrupted sweep goes on where it was. `on_progress(done, total, name)` is called
    for each one that is computed. Several `processes` take the devices in turn, and share the cores, so that the
    seconds are longer.
    A picture that a codec fails on has a row with its error, and is tried again the next time. Raises what data sets
    raise, and missing codecs: a TcmError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, jobs = Rows(folder, processes), {}
    for spec in data:
        pictures = dataset(spec)
        for index, name in enumerate(short_names(pictures)):
            image = pictures[index]
            for point in points:
                jobs[spec, point, index] = _Job(spec, index, name, point, rows.file(point, image))
    entries = {job.file: read_json(job.file, _is_entry) for job in jobs.values()}
    missing = {job.file: job for job in jobs.values() if entries[job.file] is None}
    entries |= _run(sorted(missing.values(), key=lambda job: points.index(job.point)), processes, on_progress)
    found: dict[tuple[str, Point], list[dict[str, Any]]] = {(spec, point): [] for spec in data for point in points}
    for (spec, point, _), job in jobs.items():
        entry = entries[job.file]
        # The same picture may be called otherwise in another data set.
        row = entry["row"] | {"name": job.name}
        found[spec, point].append(entry | {"row": row, "computed": job.file in missing})
    return found


def _is_entry(entry: Any) -> bool:
    row = entry["row"]
    return entry.keys() == set(_ENTRY) and row.keys() == set(COLUMNS) and row["error"] is None  # else tried again


def _run(jobs: list[_Job], processes: int, on_progress: Callable[[int, int, str], None]) -> dict[Path, dict[str, Any]]:
    """Measures all `jobs`; gives their entries."""
    found = {}
    if processes == 1 or len(jobs) < 2:
        for done, job in enumerate(jobs):
            on_progress(done, len(jobs), job.name)
            found[job.file] = _measured(job)
        return found
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    _start_resource_tracker()
    ranks = context.Queue()
    for rank in range(processes):
        ranks.put(rank)
    pool = ProcessPoolExecutor(processes, context, _start_worker, (ranks,))
    try:
        futures: dict[Future, _Job] = {pool.submit(_work, job): job for job in jobs}
        for done, future in enumerate(as_completed(futures)):
            found[futures[future].file] = future.result()
            on_progress(done, len(jobs), futures[future].name)
    except BrokenProcessPool as error:
        raise TcmError(
            "a worker process was killed, perhaps for want of memory; the same command goes on from here, "
            f"and fewer --processes than {processes} need less but start again"
        ) from error
    except BaseException:  # a signal
        _end_workers(set(multiprocessing.active_children()) - others)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return found


def _start_resource_tracker() -> None:
    """Python's helper process outlives SIGINT and SIGTERM, and must SIGHUP: it counts what the workers share."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which the helper inherits
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, before)


def _end_workers(workers: set[Any]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_PATIENCE)
        if worker.is_alive():  # it slept through the signal
            worker.kill()


def _start_worker(ranks: Any) -> None:
    """Takes the next device; processes that share one must not each claim its whole memory."""
    signals.prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; who began the workers ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    tune_process()
    devices = jax.devices()
    jax.config.update("jax_default_device", devices[ranks.get() % len(devices)])


def _end_with_parent() -> None:
    """Ends this worker with its parent, without which it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        with writing:  # a row that is half written is finished
            os._exit(signals.FAILED)


def _work(job: _Job) -> dict[str, Any]:
    """Runs `_measured` in a worker process and ends that on a signal, which its pool would take for a result."""
    try:
        return _measured(job)
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else signals.FAILED)


def _measured(job: _Job) -> dict[str, Any]:
    """Measures one row, writes it, and returns its entry; a codec that fails on a picture ends nothing."""
    image = dataset(job.data)[job.index]
    try:
        row, compile_seconds = _measure(job, image)
    except Exception as error:  # plug-ins raise whatever they like
        row, compile_seconds = failed_row(job.name, image, error), 0.0
    memory, device_memory = peak_memory()
    entry = dict(zip(_ENTRY, (row, compile_seconds, memory, device_memory), strict=True))
    remove(job.file)  # damaged, if it is there
    atomic_write(job.file, json.dumps(entry).encode())
    return entry


def _measure(job: _Job, image: np.ndarray) -> tuple[dict[str, Any], float]:
    """(the row of a picture at a point, seconds of compilation)."""
    point = job.point
    if point.codec == "tcm":
        return _meter(point.weights, point.coder).measure(
            job.name, image, point.quality, Effort(point.effort, point.tune)
        )
    assert point.quality is not None  # None is of weights alone
    return measure_other(other_codec(point.codec), job.name, image, round(point.quality)), 0.0


def peak_memory() -> tuple[int, int | None]:
    """Highest resident memory of this process so far, and of the device it runs on where that is counted; bytes."""
    statistics = default_device().memory_stats() or {}
    return peak_resident_bytes(), statistics.get("peak_bytes_in_use")


def aggregate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over a data set, under the rows' keys, and five that are no means of a column.

    `psnr` is the mean of the pictures' PSNR, `psnr_of_mean_mse` that of their mean squared error; `ms_ssim_db` the mean
    of the decibels, `ms_ssim_db_of_mean` those of the mean, as published curves have it. None where no row has a value.
    `failed` pictures are in no mean, and `lossless` ones, which came back exactly, in those of infinite decibels only
    where all did; both are counts, as is `pictures`, of all.
    """
    keys = [key for key in rows[0] if key not in ("name", "error")]
    means = {key: _mean([row[key] for row in rows]) for key in keys}
    mse, similarity = means["mse"], means["ms_ssim"]
    return means | {
        "pictures": len(rows),
        "failed": sum(row["error"] is not None for row in rows),
        "lossless": sum(row["mse"] == 0 for row in rows),
        "psnr_of_mean_mse": None if mse is None else 10 * math.log10(255**2 / mse) if mse else math.inf,
        "ms_ssim_db_of_mean": None if similarity is None else ms_ssim_db(similarity),
    }


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    present = [value for value in present if math.isfinite(value)] or present
    return sum(present) / len(present) if present else None
