"""Weights of every kind that the commands take; what one kind alone needs is imported when it is met."""

import json
from pathlib import Path

from tcm_jax.errors import WeightsError
from tcm_jax.model.config import ModelConfig
from tcm_jax.weights import files
from tcm_jax.weights.weights import Weights


def open_weights(path: str | None, tune: str | None = None) -> Weights:
    """Weights of a safetensors file, a run's folder with Orbax checkpoints, or a reference `.pth.tar`.

    Without a path, those that come with the package for `tune`, as `tcm compress --tune` names it.
    Raises WeightsError that says what is missing or does not fit.
    """
    if path is None or not (Path(path).is_dir() or Path(path).suffix in {".tar", ".pth", ".pt"}):
        return files.load_weights(path, tune)
    place = Path(path)
    if not place.is_dir():
        from tcm_jax.weights import pytorch

        return files.make_weights(*pytorch.convert(place), {"name": place.name})
    config_file = next((file for folder in (place, place.parent) if (file := folder / "config.json").exists()), None)
    if config_file is None:
        raise WeightsError(f"{place} has no config.json in it or beside it; give the folder that train.py wrote")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        name, model = config["name"], ModelConfig.from_dict(config["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{config_file} is no configuration that train.py wrote: {error}") from error
    from tcm_jax.training import checkpoints
    from tcm_jax.training.vectors import to_params

    vectors, step = checkpoints.load_run(place)
    return files.make_weights(model, to_params(vectors, model), {"name": name, "steps": str(step)})
