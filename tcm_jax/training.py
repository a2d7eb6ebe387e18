"""A training run: the loop around the step, what it saves, and how it goes on (configs/ has the recipes)."""

import logging
from pathlib import Path

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tcm_jax import checkpoint, data, losses
from tcm_jax.errors import ConfigError
from tcm_jax.step import TrainState, init_state, make_step, model_config, state_of
from tcm_jax.training_log import MetricsLog

log = logging.getLogger(__name__)


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a configuration that cannot be trained."""
    if not config.data.source:
        raise ConfigError("no training pictures: give --config.data.source=folder:PATH or tfds:NAME")
    if config.data.crop % 128 or config.data.crop < 128:
        raise ConfigError(f"data.crop is {config.data.crop}; it must be a multiple of 128")
    if config.distortion not in losses.DISTORTIONS:
        raise ConfigError(f"distortion {config.distortion!r} is none of {', '.join(losses.DISTORTIONS)}")
    devices = jax.device_count()
    if config.data.batch_size % devices:
        raise ConfigError(
            f"data.batch_size is {config.data.batch_size}; it must be a multiple of the {devices} devices"
        )
    model_config(config)


def train(config: ml_collections.ConfigDict, workdir: Path) -> Path:
    """Trains to `config.steps`, resuming from `workdir` if it holds a checkpoint; returns the exported weights' path.

    `workdir` gets config.json, metrics.jsonl, checkpoints/ and weights.safetensors.
    """
    check(config)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(config.to_json_best_effort(indent=2))
    batches = data.batches(
        config.data.source, config.data.batch_size, config.data.crop, config.seed, num_workers=config.data.workers
    )
    mesh = Mesh(np.array(jax.devices()), ("data",))
    replicated, sharded = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    with checkpoint.RunCheckpoints(workdir / "checkpoints", keep=config.keep_checkpoints) as checkpoints:
        abstract = jax.eval_shape(lambda: init_state(config))
        state = checkpoints.restore(abstract, replicated, batches)
        if state is None:
            state = jax.device_put(start_from(config) if config.init_from else init_state(config), replicated)
        state = _loop(config, state, batches, checkpoints, workdir / "metrics.jsonl", sharded)
    return checkpoint.export(
        workdir / "weights.safetensors", model_config(config), state.ema, training_metadata(config)
    )


def start_from(config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0 with the parameters of the weight file `config.init_from`."""
    weights = checkpoint.load_weights(config.init_from)
    if weights.config != model_config(config):
        raise ConfigError(f"{config.init_from} holds a network of other sizes than this configuration")
    return state_of(weights.params, config)


def training_metadata(config: ml_collections.ConfigDict) -> dict[str, str]:
    """What an exported file says about its training."""
    return {"name": config.name, "lambda": str(config.lam), "distortion": config.distortion, "steps": str(config.steps)}


def _loop(config, state, batches, checkpoints, log_path, sharding) -> TrainState:
    """Runs steps until `config.steps`; metrics are read one step late, so that dispatch runs ahead."""
    step = jax.jit(make_step(config), donate_argnums=0)
    done = int(state.step)
    with MetricsLog(log_path, done, config) as writer:
        while done < config.steps:
            batch = jax.device_put(next(batches), sharding)
            state, parts = step(state, batch)
            done += 1
            writer.add(done, parts)
            if done % config.checkpoint_every == 0 or done == config.steps:
                checkpoints.save(state, batches)
    return state
