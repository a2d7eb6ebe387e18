"""A training run: the loop around the step, what it saves, and how it goes on (configs/ has the recipes)."""

import dataclasses
import itertools
import logging
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tcm_jax.entropy.tables import build_tables
from tcm_jax.errors import ConfigError, Preempted, TcmError, TrainingError
from tcm_jax.images.datasets import open_dataset
from tcm_jax.images.pictures import write_png
from tcm_jax.model.initialization import abstract_params
from tcm_jax.training import checkpoints, losses
from tcm_jax.training.batches import Batches
from tcm_jax.training.checkpoints import RunCheckpoints
from tcm_jax.training.log import RunLog
from tcm_jax.training.preemption import Preemption
from tcm_jax.training.start import check_start, first_state
from tcm_jax.training.step import TrainState, jit_step, lambdas, model_config, state_of
from tcm_jax.training.symbol_counts import symbol_counts
from tcm_jax.training.validation import validate
from tcm_jax.training.vectors import Vectors, unflatten
from tcm_jax.training.workdir import opened
from tcm_jax.weights import files
from tcm_jax.weights.weights import Weights

log = logging.getLogger(__name__)

_MAX_RETURNS = 3  # times that a run goes back to one and the same checkpoint
_TRACED_STEPS = range(10, 15)  # of those of this process


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a configuration that cannot be trained."""
    if not config.data.source:
        raise ConfigError("no training pictures: give --config.data.source=PATH or tfds:NAME")
    if config.data.crop % 128 or config.data.crop < 128:
        raise ConfigError(f"data.crop is {config.data.crop}; it must be a multiple of 128")
    if config.distortion not in losses.DISTORTIONS:
        raise ConfigError(f"distortion {config.distortion!r} is none of {', '.join(losses.DISTORTIONS)}")
    devices = jax.device_count()
    if config.data.batch_size % devices:
        raise ConfigError(
            f"data.batch_size is {config.data.batch_size}; it must be a multiple of the {devices} devices"
        )
    if config.accumulate < 1 or config.data.batch_size % (devices * config.accumulate):
        raise ConfigError(
            f"accumulate is {config.accumulate}; data.batch_size {config.data.batch_size} must be a multiple of "
            f"accumulate times the {devices} devices"
        )
    lambdas(config)
    for name in ("log_every", "checkpoint_every", "keep_checkpoints", "max_bad_steps"):
        if config[name] < 1:
            raise ConfigError(f"{name} is {config[name]}; it must be at least 1")
    model_config(config)
    check_start(config)


def train(config: ml_collections.ConfigDict, workdir: Path) -> Path:
    """Trains to `config.steps`, resuming from `workdir` if it holds a checkpoint; returns the exported weights' path.

    `workdir` gets config.json, metrics.jsonl, validation.jsonl, tensorboard/, checkpoints/, weights.safetensors and
    curves.png. Every host calls this; the first one writes. Raises Preempted after SIGTERM, when the state is saved,
    and TcmError for whatever a user can mend, a full disk included.
    """
    check(config)
    try:
        return _train(config, workdir)
    except OSError as error:
        raise TcmError(f"cannot write to {workdir}: {error.strerror or error}") from error
    except ValueError as error:  # what TensorStore raises
        if "Error writing" in str(error) or "No space left" in str(error):
            raise TcmError(f"cannot write to {workdir}: the disk is full, or refuses a checkpoint") from error
        raise


def _train(config: ml_collections.ConfigDict, workdir: Path) -> Path:
    mesh = Mesh(np.array(jax.devices()), ("data",))
    replicated, sharded = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    with (
        opened(workdir, config),
        RunCheckpoints(workdir / "checkpoints", keep=config.keep_checkpoints) as checkpoints,
        Preemption() as preemption,
    ):
        run = _Run(config, workdir, checkpoints, replicated, sharded)
        with RunLog(workdir, int(run.state.step), config) as run_log:
            run.loop(run_log, preemption)
    if jax.process_index():
        return workdir / "weights.safetensors"
    weights = files.export(
        workdir / "weights.safetensors",
        model_config(config),
        averaged(run.state.ema, config),
        training_metadata(config, config.steps),
    )
    run_log.draw_curves()
    return weights


def global_batch(local: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """The batch of all hosts, [hosts * B, H, W, 3] over all devices, from this host's part uint8 [B, H, W, 3]."""
    return jax.make_array_from_process_local_data(sharding, local)


def compile_step(config: ml_collections.ConfigDict, replicated: NamedSharding, sharded: NamedSharding) -> Any:
    """The compiled step: state replicated and donated, batch split over the devices of all hosts."""
    crop = config.data.crop
    batch = jax.ShapeDtypeStruct((config.data.batch_size, crop, crop, 3), np.uint8)
    step = jit_step(config, in_shardings=(replicated, sharded), out_shardings=(replicated, replicated))
    return step.lower(abstract_state(config), batch).compile()


def abstract_state(config: ml_collections.ConfigDict) -> TrainState:
    """Shapes and dtypes of a run's state."""
    return jax.eval_shape(lambda params: state_of(params, config), abstract_params(model_config(config)))


class _Run:
    """What the loop works on: the compiled step, the state, the batches and the checkpoints."""

    def __init__(self, config, workdir: Path, checkpoints: RunCheckpoints, replicated, sharded):
        self.config, self.workdir, self.checkpoints = config, workdir, checkpoints
        self.replicated, self.sharded = replicated, sharded
        source = config.validation.source
        self.validation_pictures = open_dataset(source) if source else None
        self.state, position = self._newest()
        self.batches = Batches(
            config.data.source,
            config.data.batch_size,
            config.data.crop,
            config.seed,
            start=position,
            shard=(jax.process_index(), jax.process_count()),
            num_workers=config.data.workers,
        )
        self.returns: dict[int, int] = {}  # step of a checkpoint: how often the run went back to it
        started = time.perf_counter()
        self.step = compile_step(config, replicated, sharded)
        log.info("the step compiled in %.1f s", time.perf_counter() - started)

    def _newest(self) -> tuple[TrainState, int]:
        """(state, data position) to go on from: the newest readable checkpoint, or the start."""
        found = self.checkpoints.restore(abstract_state(self.config), self.replicated)
        if found is not None:
            return found
        return jax.device_put(first_state(self.config), self.replicated), 0

    def loop(self, run_log: RunLog, preemption: Preemption) -> None:
        """Steps until `config.steps`. Metrics are read one step late, so that dispatch runs ahead."""
        config, done, first = self.config, int(self.state.step), int(self.state.step)
        pending = None  # (step, metrics on the device)
        while done < config.steps:
            # A CPU's main thread runs the step, and allocates for it (memory.py), if the batch is in place.
            batch = run_log.waited(lambda: jax.block_until_ready(global_batch(next(self.batches), self.sharded)))
            self._trace(done - first)
            self.state, metrics = self.step(self.state, batch)
            done += 1
            bad = int(run_log.add(*pending)["bad_steps"]) if pending else 0
            pending = (done, metrics)
            stop = preemption.requested(done)
            last = done == config.steps
            validated = self.validation_pictures is not None and (done % config.validation.every == 0 or last)
            if stop or last or validated or done % config.checkpoint_every == 0:
                bad = int(run_log.add(*pending)["bad_steps"])
                pending = None
            if bad >= config.max_bad_steps:
                done, pending = self._go_back(done, bad), None
                run_log.went_back(done)
                continue
            if pending is None and (stop or not bad):
                self._save(done, run_log, validated)
            if stop:
                self.checkpoints.wait()
                raise Preempted(f"stopped by SIGTERM at step {done:,}, which is saved; the same command goes on")
        if pending:
            run_log.add(*pending)
        self.checkpoints.wait()
        log.info("unreadable pictures met: %d of %d", len(self.batches.unreadable), len(self.batches))

    def _save(self, done: int, run_log: RunLog, validated: bool) -> None:
        loss = None
        if validated:
            params = averaged(self.state.ema, self.config)
            weights = files.make_weights(model_config(self.config), params, {"name": self.config.name})
            row, pictures = validate(weights, self.validation_pictures, self.config)
            run_log.validated(done, row, pictures)
            loss = row["loss"]
        self.checkpoints.save(self.state, self.batches.position, loss)
        run_log.pause_ended()

    def _go_back(self, done: int, bad: int) -> int:
        """Returns to the newest checkpoint, and on to pictures not seen yet; the step it goes on from."""
        self.checkpoints.wait()
        self.state, _ = self._newest()
        step = int(self.state.step)
        self.returns[step] = self.returns.get(step, 0) + 1
        log.warning("steps %d to %d were not finite; going back to step %d", done - bad + 1, done, step)
        if self.returns[step] > _MAX_RETURNS:
            raise TrainingError(
                f"training does not get past step {step}: {bad} steps in a row were not finite, "
                f"{_MAX_RETURNS + 1} times; lower --config.learning_rate, or look at the pictures"
            )
        return step

    def _trace(self, step: int) -> None:
        """Starts or ends the profiler's trace before step `step` of this process."""
        if self.config.profile and step in (_TRACED_STEPS.start, _TRACED_STEPS.stop):
            jax.block_until_ready(self.state.step)
            if step == _TRACED_STEPS.start:
                jax.profiler.start_trace(self.config.profile)
            else:
                jax.profiler.stop_trace()
                log.info("wrote a trace of %d steps to %s", len(_TRACED_STEPS), self.config.profile)


def averaged(ema: Vectors, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The averaged parameters of a state, nested, on the host."""
    return unflatten(jax.tree.map(np.asarray, ema), model_config(config))


def training_metadata(config: ml_collections.ConfigDict, steps: int) -> dict[str, str]:
    """What an exported file says about its training."""
    return {
        "name": config.name,
        "lambda": ", ".join(map(str, lambdas(config))),
        "distortion": config.distortion,
        "steps": str(steps),
    }


def export(
    config: ml_collections.ConfigDict, workdir: Path, path: Path, step: str, dtype: str, fit_tables: int = 0
) -> Path:
    """Writes the averaged parameters of a checkpoint of the run in `workdir`: "newest", "best" or a step's number.

    With `fit_tables` the range coder's tables are fitted to the symbols of so many batches of the training pictures.
    """
    if step not in ("newest", "best") and not step.isdecimal():
        raise ConfigError(f"checkpoint {step!r} is neither newest, best nor a step")
    vectors, number = checkpoints.load_run(workdir, None if step == "newest" else int(step) if step != "best" else step)
    metadata = training_metadata(config, number)
    weights = files.make_weights(model_config(config), averaged(vectors, config), metadata, np.dtype(dtype))
    if fit_tables:
        weights = _with_fitted_tables(weights, config, fit_tables)
    files.save_weights(path, weights, np.dtype(dtype))
    return path


def _with_fitted_tables(weights: Weights, config: ml_collections.ConfigDict, batches: int) -> Weights:
    from rich.progress import track

    check(config)
    pictures = track(itertools.islice(_pipeline(config), batches), "counting symbols", batches, transient=True)
    counts = symbol_counts(weights.config, weights.params, pictures)
    tables = build_tables(weights.params["entropy_bottleneck"], counts)
    said = {"tables": f"fitted to {batches * config.data.batch_size} training pictures"}
    return dataclasses.replace(weights, tables=tables, metadata=weights.metadata | said)


def _pipeline(config: ml_collections.ConfigDict) -> Batches:
    """The training pictures from their start, for one process."""
    data = config.data
    return Batches(data.source, data.batch_size, data.crop, config.seed, num_workers=data.workers)


def dry_run(config: ml_collections.ConfigDict, workdir: Path, batches: int = 20) -> tuple[Path, float]:
    """(contact sheet of a batch as a PNG, pictures per second of the input pipeline alone)."""
    check(config)
    pipeline = _pipeline(config)
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
