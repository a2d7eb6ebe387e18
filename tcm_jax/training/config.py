"""What a training configuration (configs/) says of its network and of its rates."""

from collections.abc import Iterable

import ml_collections

from tcm_jax.errors import ConfigError
from tcm_jax.model.config import ModelConfig


def model_config(config: ml_collections.ConfigDict) -> ModelConfig:
    """The frozen model configuration of a run."""
    return ModelConfig.from_dict(config.model.to_dict())


def lambdas(config: ml_collections.ConfigDict) -> tuple[float, ...]:
    """Lambda of each gain level, or the one of a network of one rate. Raises ConfigError if they are not as many."""
    if not (config.model.levels or config.level_lams):
        return (config.lam,)
    if len(config.level_lams) != config.model.levels:
        raise ConfigError(f"level_lams has {len(config.level_lams)} lambdas for model.levels={config.model.levels}")
    return tuple(config.level_lams)


def check_choice(config: ml_collections.ConfigDict, name: str, choices: Iterable[str]) -> None:
    """Raises ConfigError if a field has none of the values that there are for it."""
    if config[name] not in choices:
        raise ConfigError(f"{name} {config[name]!r} is none of {', '.join(choices)}")
