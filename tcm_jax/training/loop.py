"""A training run: the loop around the step, what it saves, and how it goes on (configs/ has the recipes)."""

import logging
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tcm_jax.errors import Preempted, TcmError, TrainingError
from tcm_jax.images.datasets import open_dataset
from tcm_jax.training.batches import open_batches
from tcm_jax.training.check import check
from tcm_jax.training.checkpoints import RunCheckpoints
from tcm_jax.training.config import model_config
from tcm_jax.training.export import averaged, training_metadata
from tcm_jax.training.log import RunLog
from tcm_jax.training.preemption import Preemption
from tcm_jax.training.start import abstract_state, first_state
from tcm_jax.training.step import TrainState, jit_step
from tcm_jax.training.validation import check_pictures, validate
from tcm_jax.training.workdir import hold_workdir
from tcm_jax.weights import files

log = logging.getLogger(__name__)

_MAX_RETURNS = 3  # times that a run goes back to one and the same checkpoint
_TRACED_STEPS = range(10, 15)  # of those of this process


def train(config: ml_collections.ConfigDict, workdir: Path) -> Path:
    """Trains to `config.steps`, resuming from `workdir` if it holds a checkpoint; returns the exported weights' path.

    `workdir` gets config.json, metrics.jsonl, validation.jsonl, tensorboard/, checkpoints/, weights.safetensors and
    curves.png. Every host calls this; the first one writes. Raises Preempted after SIGTERM, when the state is saved,
    and TcmError for whatever a user can mend, a full disk included.
    """
    check(config)
    try:
        return _train(config, workdir)
    except TcmError:  # a StreamError is an OSError, too
        raise
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
        hold_workdir(workdir, config),
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


class _Run:
    """What the loop works on: the compiled step, the state, the batches and the checkpoints."""

    def __init__(self, config, workdir: Path, checkpoints: RunCheckpoints, replicated, sharded):
        self.config, self.workdir, self.checkpoints = config, workdir, checkpoints
        self.replicated, self.sharded = replicated, sharded
        source = config.validation.source
        self.validation_pictures = open_dataset(source) if source else None
        if self.validation_pictures is not None:
            check_pictures(self.validation_pictures, config)
        self.state, position = self._newest()
        self.batches = open_batches(config, start=position, shard=(jax.process_index(), jax.process_count()))
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
            batch = run_log.wait_for(lambda: jax.block_until_ready(global_batch(next(self.batches), self.sharded)))
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
                run_log.go_back(done)
                continue
            if pending is None and (stop or not bad):
                self._save(done, run_log, validated)
            if stop:
                self.checkpoints.wait()
                raise Preempted(f"stopped by SIGTERM at step {done:,}, which is saved; the same command goes on")
        self.checkpoints.wait()
        log.info("unreadable pictures met: %d of %d", len(self.batches.unreadable), len(self.batches))

    def _save(self, done: int, run_log: RunLog, validated: bool) -> None:
        loss = None
        if validated and self.validation_pictures is not None:
            params = averaged(self.state.ema, self.config)
            weights = files.make_weights(model_config(self.config), params, {"name": self.config.name})
            row, pictures = validate(weights, self.validation_pictures, self.config)
            run_log.write_validation(done, row, pictures)
            loss = row["loss"]
        self.checkpoints.save(self.state, self.batches.position, loss)
        run_log.end_pause()

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
