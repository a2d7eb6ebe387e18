"""One training step: state, noise, gradient, average, and the function that is jitted (Sec. 4.1 of the paper)."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from tcm_jax import ops
from tcm_jax.entropy import factorized
from tcm_jax.errors import ConfigError
from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE, ModelConfig
from tcm_jax.model.tcm import TCM
from tcm_jax.training import losses
from tcm_jax.training.config import check_choice, lambdas, model_config
from tcm_jax.training.optimizer import make_optimizer, make_schedule
from tcm_jax.training.vectors import Vectors, to_params, to_vectors

TRANSFORMS = ("g_a", "g_s", "gain_y", "inverse_gain_y", "lrp_transforms")  # what the distortion depends on
# What a step's key is folded with. Not 0 or 1: `split` may give the keys of those.
_LEVEL_KEY, _DETAIL_KEY = 2, 3
# What XLA is told besides, by platform.
COMPILER_OPTIONS: dict[str, dict[str, Any]] = {
    # As fast as LLVM's level 3, and compiled in about nine tenths of the time.
    "cpu": {"xla_backend_optimization_level": 2},
    # Triton's split-K products abort the process that compiles a gradient (openxla/xla#47381; XLA of JAX 0.10.2).
    "gpu": {"xla_gpu_enable_triton_gemm": False},
    # A search for a product's tiles ends at 95 % of what it could reach, in half the time
    # (docs/experiments/2026-12-01-tpu-tiles.md).
    "tpu": {"xla_jf_convolution_performance_target": 0.95},
}


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to go on, but the data iterator's position."""

    step: jax.Array  # int32 scalar, steps done
    params: dict[str, Any]  # nested float32 arrays
    ema: Vectors  # exponential moving average of params, what is exported; see vectors.py
    opt_state: optax.OptState
    bad_steps: jax.Array  # int32 scalar, steps in a row, up to now, that were skipped as not finite


def draw_noise(model: ModelConfig, key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    """Uniform noise in [-0.5, 0.5) for y, z and the detail slices of pictures of `shape` [B, H, W, 3]."""
    batch, height, width = shape[:3]
    key_y, key_z = jax.random.split(key)
    y_shape = (batch, height // LATENT_STRIDE, width // LATENT_STRIDE, model.latent_channels)
    z_shape = (batch, height // HYPER_STRIDE, width // HYPER_STRIDE, model.hyper_channels)
    noise = {
        "y": jax.random.uniform(key_y, y_shape, minval=-0.5, maxval=0.5),
        "z": jax.random.uniform(key_z, z_shape, minval=-0.5, maxval=0.5),
    }
    if model.detail_channels:
        shape = (*y_shape[:3], model.detail_channels)
        noise["detail"] = jax.random.uniform(jax.random.fold_in(key, _DETAIL_KEY), shape, minval=-0.5, maxval=0.5)
    return noise


def check_loss(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a distortion or a precision that does not exist, or a rate that would lack a part."""
    check_choice(config, "distortion", losses.DISTORTIONS)
    check_choice(config, "precision", ops.PRECISIONS)
    if config.entropy_only and config.model.detail_channels:  # they code what g_s misses, which is not computed
        raise ConfigError(
            "entropy_only trains no detail slices; train without them (model.detail_channels=0, model.detail_from=()), "
            "and give the weights to the run of the whole network as init_from"
        )


def make_loss(config: ml_collections.ConfigDict) -> Callable:
    """`(params, pictures uint8 [B, H, W, 3], noise, level float32 [B]) -> (loss, metrics)`, auxiliary loss included."""
    check_loss(config)
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32
    model = TCM(model_config(config), dtype, config.precision, config.remat)

    def loss_fn(params: dict[str, Any], batch: jax.Array, noise: dict[str, jax.Array], level: jax.Array):
        x = batch.astype(jnp.float32) / 255
        if config.entropy_only:
            loss, parts = _rate_alone(model, params, x, noise, level)
        else:
            x_hat, out = model.apply({"params": params}, x, noise, level)
            likelihoods = [value for name, value in out.items() if name.startswith("likelihood_")]
            lam, weight = level_weights(config, level)
            loss, parts = losses.rate_distortion(x, x_hat, likelihoods, lam, config.distortion, weight)
        aux = factorized.auxiliary_loss(params["entropy_bottleneck"])
        # The two losses share no parameter, so their gradients may be taken together.
        return loss + aux, {**parts, "aux_loss": aux}

    return loss_fn


def _rate_alone(model: TCM, params: dict[str, Any], x: jax.Array, noise, level) -> tuple[jax.Array, dict[str, Any]]:
    """(bits per pixel, metrics) with no gradient for TRANSFORMS; only the first picture is synthesized."""
    params = {k: jax.lax.stop_gradient(v) if k.startswith(TRANSFORMS) else v for k, v in params.items()}
    out: Any = model.apply({"params": params}, x, noise, level, method="latents")
    x_hat: Any = model.apply({"params": params}, out["y_hat"][:1], level[:1], method="synthesis")
    bpp = jnp.mean(losses.bits_per_pixel([out["likelihood_y"], out["likelihood_z"]], x.shape[1] * x.shape[2]))
    mse = jnp.mean((x_hat - x[:1]) ** 2)
    return bpp, {"loss": bpp, "bpp": bpp, "mse": mse, "psnr": -10 * jnp.log10(mse)}


def level_weights(config: ml_collections.ConfigDict, level: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(lambda, weight in the loss) at each `level`, float32 [B] all; see `lambdas`, between which it is geometric."""
    logarithms = np.log(lambdas(config), dtype=np.float32)
    shares = jnp.maximum(0, 1 - jnp.abs(level[:, None] - np.arange(len(logarithms), dtype=np.float32)))
    lam = jnp.exp((shares * logarithms).sum(-1))
    return lam, jnp.sqrt(config.lam / lam) if config.balance_levels else jnp.ones_like(lam)


def draw_levels(key: jax.Array, count: int, levels: int) -> jax.Array:
    """Gain levels of `count` pictures, float32 [count]: whole or between two, each whole one as often near as any.

    What a picture is coded with may lie between two levels, and a detail slice's first ones do.
    """
    return jnp.clip(jax.random.uniform(key, (count,), minval=-0.5, maxval=levels - 0.5), 0, levels - 1)


def make_step(config: ml_collections.ConfigDict) -> Callable:
    """`(state, batch uint8 [B, H, W, 3]) -> (state, metrics)`, to be jitted; metrics are float32 scalars.

    A variable-rate network draws a level, and with it a lambda, for each picture. A step whose loss or gradients are
    not finite leaves all but `step` and `bad_steps` as it was (metric `skipped`).
    """
    loss_fn, optimizer, schedule = make_loss(config), make_optimizer(config), make_schedule(config)
    model, levels = model_config(config), len(lambdas(config))
    base_key = jax.random.key(config.seed + 1)

    def step(state: TrainState, batch: jax.Array):
        key = jax.random.fold_in(base_key, state.step)
        noise = draw_noise(model, key, batch.shape)
        level = draw_levels(jax.random.fold_in(key, _LEVEL_KEY), len(batch), levels)
        grads, metrics = _mean_gradient(loss_fn, config.accumulate, state.params, (batch, noise, level))
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(optax.tree.norm(grads))
        before = (to_vectors(state.params), state.ema, state.opt_state)

        def update(params, ema, opt_state):
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
            return params, optax.incremental_update(params, ema, 1 - decay), opt_state

        # A condition, not a selection: XLA would compute the update anew in each of the slices that `to_params` takes.
        params, ema, opt_state = jax.lax.cond(finite, update, lambda *before: before, *before)
        bad_steps = jnp.where(finite, 0, state.bad_steps + 1)
        metrics |= {
            "psnr": -10 * jnp.log10(metrics["mse"]),
            "grad_norm": optax.tree.norm(grads["main"]),
            "learning_rate": schedule(state.step),
            "skipped": 1 - finite.astype(jnp.float32),
            "bad_steps": bad_steps.astype(jnp.float32),
        }
        return TrainState(state.step + 1, to_params(params, model), ema, opt_state, bad_steps), metrics

    return step


def jit_step(config: ml_collections.ConfigDict, **shardings: Any) -> Any:
    """`make_step`, jitted; the state is donated. `shardings` as `jax.jit` takes them.

    Compiled for the devices of the shardings; without any, for the current target's platform.
    """
    mesh = shardings["in_shardings"][1].mesh if shardings else None
    platform = mesh.devices.flat[0].platform if mesh else ops.current().platform
    target, step = ops.training_target(platform, mesh), make_step(config)

    def traced(state: TrainState, batch: jax.Array):
        with ops.target(target), ops.precision("float32"):  # all but the transforms, which have config.precision
            return step(state, batch)

    return jax.jit(traced, donate_argnums=0, compiler_options=COMPILER_OPTIONS.get(target.platform), **shardings)


def _mean_gradient(
    loss_fn: Callable, parts: int, params: dict[str, Any], inputs: Any
) -> tuple[Vectors, dict[str, jax.Array]]:
    """Gradient and metrics of a batch, taken in `parts` of equal size one after the other."""

    def gradient(params, *inputs):
        grads, metrics = jax.grad(loss_fn, has_aux=True)(params, *inputs)
        return to_vectors(grads), metrics

    if parts == 1:
        return gradient(params, *inputs)
    # Every parts-th picture, so that each device finds those of a part among its own.
    split = jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), inputs)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(gradient, params, *inputs))

    def add(total, part):
        return jax.tree.map(jnp.add, total, gradient(params, *part)), None

    total, _ = jax.lax.scan(add, zero, split)
    return jax.tree.map(lambda leaf: leaf / parts, total)
