"""Training: optimizer, one jitted step, and the loop around it (Sec. 4.1 of the paper; configs/ has the recipes)."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tcm_jax import checkpoint, data, losses
from tcm_jax.entropy import factorized
from tcm_jax.errors import ConfigError
from tcm_jax.model import TCM, ModelConfig

log = logging.getLogger(__name__)


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to go on, but the data iterator's position."""

    step: jax.Array  # int32 scalar, optimizer steps done
    params: Any
    ema: Any  # exponential moving average of params, what is exported
    opt_state: optax.OptState


def make_schedule(config: ml_collections.ConfigDict) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then x0.1 at `milestones` ("multistep") or half a cosine to 0."""
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "multistep":
        after = optax.piecewise_constant_schedule(peak, {step - warmup: 0.1 for step in config.milestones})
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(config.steps - warmup, 1))
    else:
        raise ConfigError(f"schedule {config.schedule!r} is neither 'multistep' nor 'cosine'")
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """The two Adams as one transformation: the bottleneck's quantiles at their own rate, all else clipped by norm."""
    main = optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(make_schedule(config)))
    return optax.multi_transform(
        {"main": main, "quantiles": optax.adam(config.aux_learning_rate)},
        lambda params: flax.traverse_util.path_aware_map(
            lambda path, _: "quantiles" if path[-1] == "quantiles" else "main", params
        ),
    )


def draw_noise(model: ModelConfig, key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    """Uniform noise in [-0.5, 0.5) for y and z of pictures of `shape` [B, H, W, 3]."""
    batch, height, width = shape[:3]
    key_y, key_z = jax.random.split(key)
    y_shape = (batch, height // 16, width // 16, model.latent_channels)
    z_shape = (batch, height // 64, width // 64, model.hyper_channels)
    return {
        "y": jax.random.uniform(key_y, y_shape, minval=-0.5, maxval=0.5),
        "z": jax.random.uniform(key_z, z_shape, minval=-0.5, maxval=0.5),
    }


def make_step(config: ml_collections.ConfigDict) -> Callable:
    """`(state, batch uint8 [B, H, W, 3], noise) -> (state, metrics)`, to be jitted; metrics are float32 scalars."""
    model, optimizer, schedule = TCM(model_config(config)), make_optimizer(config), make_schedule(config)

    def loss_fn(params, x, noise):
        x_hat, out = model.apply({"params": params}, x, noise)
        likelihoods = [out["likelihood_y"], out["likelihood_z"]]
        loss, parts = losses.rate_distortion(x, x_hat, likelihoods, config.lam, config.distortion)
        aux = factorized.auxiliary_loss(params["entropy_bottleneck"])
        # The two losses share no parameter, so their gradients may be taken together.
        return loss + aux, {**parts, "aux_loss": aux}

    def step(state: TrainState, batch: jax.Array, noise: dict[str, jax.Array]):
        x = batch.astype(jnp.float32) / 255
        grads, parts = jax.grad(loss_fn, has_aux=True)(state.params, x, noise)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        parts |= {"grad_norm": optax.tree.norm(grads), "learning_rate": schedule(state.step)}
        return TrainState(state.step + 1, params, ema, opt_state), parts

    return step


def model_config(config: ml_collections.ConfigDict) -> ModelConfig:
    """The frozen model configuration of a run."""
    return ModelConfig.from_dict(config.model.to_dict())


def init_state(config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0, from `config.seed`."""
    model = TCM(model_config(config))
    picture = jnp.zeros((1, 128, 128, 3))
    return state_of(jax.jit(model.init)(jax.random.key(config.seed), picture)["params"], config)


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


def state_of(params: Any, config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0 with given parameters."""
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema, make_optimizer(config).init(params))


def training_metadata(config: ml_collections.ConfigDict) -> dict[str, str]:
    """What an exported file says about its training."""
    return {"name": config.name, "lambda": str(config.lam), "distortion": config.distortion, "steps": str(config.steps)}


def _loop(config, state, batches, checkpoints, log_path, sharding) -> TrainState:
    """Runs steps until `config.steps`; metrics are read one step late, so that dispatch runs ahead."""
    model, base_key = model_config(config), jax.random.key(config.seed + 1)

    def noisy_step(state, batch):
        noise = draw_noise(model, jax.random.fold_in(base_key, state.step), batch.shape)
        return step(state, batch, noise)

    step = make_step(config)
    jitted = jax.jit(noisy_step, donate_argnums=0)
    done = int(state.step)
    with MetricsLog(log_path, done, config) as writer:
        while done < config.steps:
            batch = jax.device_put(next(batches), sharding)
            state, parts = jitted(state, batch)
            done += 1
            writer.add(done, parts)
            if done % config.checkpoint_every == 0 or done == config.steps:
                checkpoints.save(state, batches)
    return state


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
