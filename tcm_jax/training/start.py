"""The state that a run starts from: random, the KLT of its pictures, or the weights of an earlier run."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import traverse_util

from tcm_jax.errors import ConfigError
from tcm_jax.model.initialization import abstract_params, init_params
from tcm_jax.model.klt import check_klt, start_from_klt
from tcm_jax.training.batches import Batches
from tcm_jax.training.config import check_choice, lambdas, model_config
from tcm_jax.training.extension import extend, is_extension
from tcm_jax.training.optimizer import make_optimizer
from tcm_jax.training.step import TrainState
from tcm_jax.training.vectors import to_vectors
from tcm_jax.weights import files

INITIALIZATIONS = ("random", "klt")
_KLT_PIXELS = 256 * 128**2  # of the crops whose KLT a network starts from: enough for any number of channels


def check_start(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError if the network of `config` cannot start as it says."""
    check_choice(config, "initialization", INITIALIZATIONS)
    if config.initialization == "klt":
        check_klt(model_config(config))


def first_state(config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0; every host makes the same. Raises WeightsError or ConfigError for a bad `init_from`."""
    return make_state(_first_params(config), config)


def make_state(params: dict[str, Any], config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0 with given nested parameters."""
    vectors, zero = to_vectors(params), jnp.zeros((), jnp.int32)
    # Copied: a donated buffer must not be NumPy's, which frees it.
    arrays = jax.tree.map(jnp.array, params)
    return TrainState(zero, arrays, vectors, make_optimizer(config).init(vectors), zero.copy())


def abstract_state(config: ml_collections.ConfigDict) -> TrainState:
    """Shapes and dtypes of a run's state."""
    return jax.eval_shape(lambda params: make_state(params, config), abstract_params(model_config(config)))


def random_params(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Nested parameters drawn by `config.seed`.

    The gains of y start where a step size that falls with the root of lambda puts them, as it does at high rates: ones
    for `config.lam`, and inverse gains that undo them.
    """
    params = init_params(model_config(config), config.seed)
    if config.model.levels:
        log_gains = 0.5 * np.log(np.array(lambdas(config), np.float32) / config.lam)[:, None]
        for name, sign in (("gain_y", 1), ("inverse_gain_y", -1)):
            params[name]["log_gain"] = params[name]["log_gain"] + sign * log_gains
    return params


def _first_params(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Nested parameters of step 0, float32 NumPy arrays, begun as `config` says."""
    if config.init_from:
        return _loaded_params(config)
    params = random_params(config)
    if config.initialization == "random":
        return params
    return start_from_klt(params, model_config(config), _crops(config), lambdas(config))


def _crops(config: ml_collections.ConfigDict) -> np.ndarray:
    """Crops of the training pictures, enough for a KLT: uint8 [B, crop, crop, 3]."""
    data = config.data
    return next(Batches(data.source, max(1, _KLT_PIXELS // data.crop**2), data.crop, config.seed))


def _loaded_params(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Nested parameters of the weight file `config.init_from`.

    A variable-rate network may start from a fixed-rate one, of the rate `config.lam`: see `random_params`; or
    from one of the first of its levels, and without its detail slices: see extension.py.
    """
    weights, model = files.load_weights(config.init_from), model_config(config)
    if weights.config != model and is_extension(model, weights.config):
        return extend(random_params(config), weights.params, model, lambdas(config), _crops(config))
    wanted = model if weights.config.levels else dataclasses.replace(model, levels=0)
    if differ := [
        f"{name} {value} for {getattr(wanted, name)}"
        for name, value in vars(weights.config).items()
        if value != getattr(wanted, name)
    ]:
        raise ConfigError(
            f"{config.init_from} holds a network with {', '.join(differ)}; give the sizes of that network, "
            "or another init_from"
        )
    params = traverse_util.flatten_dict(random_params(config)) | traverse_util.flatten_dict(weights.params)
    return traverse_util.unflatten_dict(params)
