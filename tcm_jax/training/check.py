"""Whether a configuration can be trained."""

import math

import jax
import ml_collections

from tcm_jax.errors import ConfigError
from tcm_jax.model.config import PAD_MULTIPLE
from tcm_jax.training import losses
from tcm_jax.training.config import lambdas, model_config
from tcm_jax.training.optimizer import check_optimizer
from tcm_jax.training.start import check_start
from tcm_jax.training.step import check_loss

_WHOLE_FROM = {  # the least value of each whole number
    "steps": 1,
    "warmup_steps": 0,
    "fall_steps": 1,
    "seed": 0,
    "accumulate": 1,
    "log_every": 1,
    "checkpoint_every": 1,
    "keep_checkpoints": 1,
    "max_bad_steps": 1,
    "data.batch_size": 1,
    "data.crop": 1,
    "data.workers": 0,
    "validation.every": 1,
    "validation.pictures": 1,
}
_POSITIVE = ("lam", "learning_rate", "aux_learning_rate", "clip_norm")  # finite numbers over 0


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a configuration that cannot be trained."""
    if not config.data.source:
        raise ConfigError("no training pictures: give --config.data.source=PATH or tfds:NAME")
    _check_numbers(config)
    if config.data.crop % PAD_MULTIPLE:
        raise ConfigError(f"data.crop is {config.data.crop}; it must be a multiple of {PAD_MULTIPLE}")
    check_loss(config)
    if config.data.crop < (least := losses.least_side(config.distortion)):
        raise ConfigError(
            f"data.crop is {config.data.crop}; the distortion {config.distortion} needs at least {least} pixels a side"
        )
    check_optimizer(config)
    devices = jax.device_count()
    if config.data.batch_size % devices:
        raise ConfigError(
            f"data.batch_size is {config.data.batch_size}; it must be a multiple of the {devices} devices"
        )
    if config.data.batch_size % (devices * config.accumulate):
        raise ConfigError(
            f"accumulate is {config.accumulate}; data.batch_size {config.data.batch_size} must be a multiple of "
            f"accumulate times the {devices} devices"
        )
    model_config(config)
    check_start(config)


def _check_numbers(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a number that no run can have."""
    for name, least in _WHOLE_FROM.items():
        value = _field(config, name)
        if value < least:
            raise ConfigError(f"{name} is {value}; it must be at least {least}")
    for name in _POSITIVE:
        if not 0 < config[name] < math.inf:
            raise ConfigError(f"{name} is {config[name]}; it must be a number over 0")
    if not 0 <= config.ema_decay < 1:
        raise ConfigError(f"ema_decay is {config.ema_decay}; it must be at least 0 and less than 1")
    if not all(0 < lam < math.inf for lam in lambdas(config)):
        raise ConfigError(f"level_lams are {tuple(config.level_lams)}; they must be numbers over 0")
    if list(config.milestones) != sorted({step for step in config.milestones if step > config.warmup_steps}):
        raise ConfigError(f"milestones are {tuple(config.milestones)}; they must rise from over warmup_steps on")


def _field(config: ml_collections.ConfigDict, name: str) -> float:
    """The value of a field by its dotted name."""
    section, dot, field = name.partition(".")
    return config[section][field] if dot else config[name]
