"""The optimizer of a run, Adam or SOAP, and its learning-rate schedule."""

import flax
import jax
import ml_collections
import optax

from tcm_jax.errors import ConfigError
from tcm_jax.training.adam import adam
from tcm_jax.training.config import check_choice, model_config
from tcm_jax.training.soap import soap
from tcm_jax.training.vectors import group_shapes

OPTIMIZERS = ("adam", "soap")
SCHEDULES = ("multistep", "cosine", "flat")


def check_optimizer(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for an optimizer or a schedule that does not exist, or has no room in the steps."""
    check_choice(config, "optimizer", OPTIMIZERS)
    check_choice(config, "schedule", SCHEDULES)
    if config.schedule == "flat" and config.warmup_steps + config.fall_steps > config.steps:
        raise ConfigError(
            f"warmup_steps {config.warmup_steps} and fall_steps {config.fall_steps} of the flat schedule are more "
            f"than steps, {config.steps}"
        )


def make_schedule(config: ml_collections.ConfigDict) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then as `config.schedule` says.

    "multistep": x0.1 at each of `milestones`; "cosine": half a cosine to 0; "flat": the same up to the last
    `fall_steps`, which end at 0 by a straight line.
    """
    check_optimizer(config)
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "multistep":
        after = optax.piecewise_constant_schedule(peak, {step - warmup: 0.1 for step in config.milestones})
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(config.steps - warmup, 1))
    else:
        after = optax.linear_schedule(peak, 0.0, config.fall_steps, config.steps - config.fall_steps - warmup)
    joined = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])

    def schedule(step: jax.Array) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"):  # Optax's schedules mix integers and floats
            return joined(step)

    return schedule


def make_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Two as one transformation: Adam for the bottleneck's quantiles at their own rate, all else clipped by norm."""
    schedule = make_schedule(config)
    soaped = config.optimizer == "soap"
    first = soap(schedule, group_shapes(model_config(config), "main")) if soaped else adam(schedule)
    main = optax.chain(optax.clip_by_global_norm(config.clip_norm), first)
    return optax.multi_transform(
        {"main": main, "quantiles": adam(config.aux_learning_rate)},
        lambda params: flax.traverse_util.path_aware_map(
            lambda path, _: "quantiles" if path[-1] == "quantiles" else "main", params
        ),
    )
