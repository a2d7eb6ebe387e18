"""The state that a run starts from: random, the KLT of its pictures, or the weights of an earlier run."""

import dataclasses

import ml_collections
import numpy as np
from flax import traverse_util

from tcm_jax.errors import ConfigError
from tcm_jax.model.klt import check_klt, start_from_klt
from tcm_jax.training.batches import Batches
from tcm_jax.training.extension import extended, is_extension
from tcm_jax.training.step import TrainState, init_state, initial_params, lambdas, model_config, state_of
from tcm_jax.weights import files

INITIALIZATIONS = ("random", "klt")
_KLT_PIXELS = 256 * 128**2  # of the crops whose KLT a network starts from: enough for any number of channels


def check_start(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError if the network of `config` cannot start as it says."""
    if config.initialization not in INITIALIZATIONS:
        raise ConfigError(f"initialization {config.initialization!r} is none of {', '.join(INITIALIZATIONS)}")
    if config.initialization == "klt":
        check_klt(model_config(config))


def first_state(config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0; every host makes the same."""
    if config.init_from:
        return _from_weights(config)
    if config.initialization == "random":
        return init_state(config)
    klt = start_from_klt(initial_params(config), model_config(config), _crops(config), lambdas(config))
    return state_of(klt, config)


def _crops(config: ml_collections.ConfigDict) -> np.ndarray:
    """Crops of the training pictures, enough for a KLT: uint8 [B, crop, crop, 3]."""
    data = config.data
    return next(Batches(data.source, max(1, _KLT_PIXELS // data.crop**2), data.crop, config.seed))


def _from_weights(config: ml_collections.ConfigDict) -> TrainState:
    """State of step 0 with the parameters of the weight file `config.init_from`.

    A variable-rate network may start from a fixed-rate one, of the rate `config.lam`: see `step.initial_params`; or
    from one of the first of its levels, and without its detail slices: see extension.py.
    """
    weights, model = files.load_weights(config.init_from), model_config(config)
    if weights.config != model and is_extension(model, weights.config):
        params = extended(initial_params(config), weights.params, model, lambdas(config), _crops(config))
        return state_of(params, config)
    if weights.config not in (model, dataclasses.replace(model, levels=0)):
        raise ConfigError(f"{config.init_from} holds a network of other sizes than this configuration")
    params = traverse_util.flatten_dict(initial_params(config)) | traverse_util.flatten_dict(weights.params)
    return state_of(traverse_util.unflatten_dict(params), config)
