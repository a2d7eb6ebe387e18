"""Weight files from the checkpoints of a training run."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from tcm_jax.entropy.tables import build_tables
from tcm_jax.errors import ConfigError
from tcm_jax.training import checkpoints
from tcm_jax.training.batches import open_batches
from tcm_jax.training.check import check
from tcm_jax.training.config import lambdas, model_config
from tcm_jax.training.symbol_counts import symbol_counts
from tcm_jax.training.vectors import Vectors, to_params
from tcm_jax.training.workdir import OF_WEIGHTS, differing
from tcm_jax.weights import files
from tcm_jax.weights.weights import Weights


def averaged(ema: Vectors, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The averaged parameters of a state, nested, on the host."""
    return to_params(jax.tree.map(np.asarray, ema), model_config(config))


def training_metadata(config: ml_collections.ConfigDict, steps: int) -> dict[str, str]:
    """What an exported file says about its training."""
    return {
        "name": config.name,
        "lambda": ", ".join(map(str, lambdas(config))),
        "distortion": config.distortion,
        "steps": str(steps),
    }


def export(
    config: ml_collections.ConfigDict, workdir: Path, path: Path, step: str, dtype: str, fit_tables: int = 0
) -> Path:
    """Writes the averaged parameters of a checkpoint of the run in `workdir`: "newest", "best" or a step's number.

    With `fit_tables` the range coder's tables are fitted to the symbols of so many batches of the training pictures.
    Raises ConfigError if `config` has another network or rate than the run, which the file would not tell.
    """
    if step not in ("newest", "best") and not step.isdecimal():
        raise ConfigError(f"checkpoint {step!r} is neither newest, best nor a step")
    if differ := differing(workdir, config, OF_WEIGHTS):
        raise ConfigError(
            f"{workdir} holds a run with another {' and another '.join(differ)}; give the --config of that run, and "
            "its --config.x.y=, as config.json has them"
        )
    vectors, number = checkpoints.load_run(workdir, None if step == "newest" else int(step) if step != "best" else step)
    metadata = training_metadata(config, number)
    weights = files.make_weights(model_config(config), averaged(vectors, config), metadata, np.dtype(dtype))
    if fit_tables:
        weights = _with_fitted_tables(weights, config, fit_tables)
    files.save_weights(path, weights, np.dtype(dtype))
    return path


def _with_fitted_tables(weights: Weights, config: ml_collections.ConfigDict, batches: int) -> Weights:
    from rich.progress import track

    check(config)
    pictures = track(itertools.islice(open_batches(config), batches), "counting symbols", batches, transient=True)
    counts = symbol_counts(weights.config, weights.params, pictures)
    tables = build_tables(weights.params["entropy_bottleneck"], counts)
    said = {"tables": f"fitted to {batches * config.data.batch_size} training pictures"}
    return dataclasses.replace(weights, tables=tables, metadata=weights.metadata | said)
