"""One training step: optimizer, state, and the function that is jitted (Sec. 4.1 of the paper)."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import optax

from tcm_jax import losses
from tcm_jax.adam import adam
from tcm_jax.entropy import factorized
from tcm_jax.errors import ConfigError
from tcm_jax.initialization import init_params
from tcm_jax.model import TCM
from tcm_jax.model_config import ModelConfig


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to go on, but the data iterator's position."""

    step: jax.Array  # int32 scalar, optimizer steps done
    params: Any
    ema: Any  # exponential moving average of params, what is exported
    opt_state: optax.OptState


def model_config(config: ml_collections.ConfigDict) -> ModelConfig:
    """The frozen model configuration of a run."""
    return ModelConfig.from_dict(config.model.to_dict())


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
    main = optax.chain(optax.clip_by_global_norm(config.clip_norm), adam(make_schedule(config)))
    return optax.multi_transform(
        {"main": main, "quantiles": adam(config.aux_learning_rate)},
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
    """`(state, batch uint8 [B, H, W, 3]) -> (state, metrics)`, to be jitted; metrics are float32 scalars."""
    model, optimizer, schedule = TCM(model_config(config)), make_optimizer(config), make_schedule(config)
    base_key = jax.random.key(config.seed + 1)

    def loss_fn(params, x, noise):
        x_hat, out = model.apply({"params": params}, x, noise)
        likelihoods = [out["likelihood_y"], out["likelihood_z"]]
        loss, parts = losses.rate_distortion(x, x_hat, likelihoods, config.lam, config.distortion)
        aux = factorized.auxiliary_loss(params["entropy_bottleneck"])
        # The two losses share no parameter, so their gradients may be taken together.
        return loss + aux, {**parts, "aux_loss": aux}

    def step(state: TrainState, batch: jax.Array):
        noise = draw_noise(model.config, jax.random.fold_in(base_key, state.step), batch.shape)
        x = batch.astype(jnp.float32) / 255
        grads, parts = jax.grad(loss_fn, has_aux=True)(state.params, x, noise)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        parts |= {"grad_norm": optax.tree.norm(grads), "learning_rate": schedule(state.step)}
        return TrainState(state.step + 1, params, ema, opt_state), parts

    return step


def init_state(config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0, from `config.seed`."""
    return state_of(init_params(model_config(config), config.seed), config)


def state_of(params: Any, config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0 with given parameters."""
    params = jax.tree.map(jnp.asarray, params)
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema, make_optimizer(config).init(params))
