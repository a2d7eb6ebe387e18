"""Weights on disk: safetensors, one file with its configuration and tables."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.entropy.range_tables import RangeTables
from tcm_jax.entropy.tables import build_tables
from tcm_jax.errors import ConfigError, WeightsError
from tcm_jax.model.config import ModelConfig
from tcm_jax.system import cache, program_cache
from tcm_jax.system.devices import pinned, with_pinned
from tcm_jax.system.files import atomic_write
from tcm_jax.system.names import file_path
from tcm_jax.system.walk import special_kind
from tcm_jax.weights.embedded import EMBEDDED, embedded_for
from tcm_jax.weights.number_types import packed, rounded, unpacked
from tcm_jax.weights.weights import Weights, flatten, match_parameters, table_arrays, unflatten

FORMAT = "tcm_jax 1"


def make_weights(config: ModelConfig, params: dict[str, Any], metadata: dict[str, str], dtype=np.float32) -> Weights:
    """Weights ready for a codec: parameters rounded to `dtype` (held as float32) and the tables computed from them.

    `dtype` is float32, float16 or int8; see `number_types.py`.
    """
    params = unflatten({key: rounded(key, np.asarray(value), dtype) for key, value in flatten(params).items()})
    broken = [key for key, value in flatten(params).items() if not np.isfinite(value).all()]
    if broken:
        raise WeightsError(
            f"{len(broken)} parameters are not finite, the first of them {broken[0]}; nothing is written"
        )
    return Weights(config, params, build_tables(params["entropy_bottleneck"]), metadata)


def save_weights(path: str | os.PathLike, weights: Weights, dtype=np.float32) -> int:
    """Writes one safetensors file and returns its size in bytes.

    float16 and int8 are exact for parameters that `make_weights` rounded to them.
    """
    from safetensors.numpy import save

    arrays = packed(flatten(weights.params), dtype)
    header = {"format": FORMAT, "config": weights.config.to_json(), "identity": weights.identity}
    data = save({**arrays, **table_arrays(weights.tables)}, {**weights.metadata, **header})
    atomic_write(path, data)
    return len(data)


def export(path: Path, config: ModelConfig, params: dict[str, Any], metadata: dict[str, str], dtype=np.float32) -> Path:
    """Computes the tables and writes the weight file; returns its path."""
    save_weights(path, make_weights(config, params, metadata, dtype), dtype)
    return path


@with_pinned
def load_weights(path: str | os.PathLike | None = None, tune: str | None = None) -> Weights:
    """Weights of a safetensors file that `save_weights` wrote; without one, the embedded ones for `tune`.

    Raises WeightsError for a file that is missing, damaged, from another program, or does not fit its configuration.
    """
    path = embedded_for(tune) if path is None else file_path(os.fspath(path))
    arrays, header = _read(path)
    if header.get("format") != FORMAT:
        raise WeightsError(f"{path} is a safetensors file, but not one that tcm_jax {FORMAT.split()[1]} wrote")
    try:
        config = ModelConfig.from_dict(json.loads(header["config"]))
        tables = RangeTables(arrays.pop("tables/lookup"), arrays.pop("tables/offsets"))
        params = unflatten(unpacked(arrays))
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise WeightsError(f"{path} holds no usable model configuration, tables or parameters: {error}") from error
    metadata = {key: value for key, value in header.items() if key not in ("format", "config", "identity")}
    weights = Weights(config, params, tables, metadata)
    if weights.identity != header.get("identity"):
        raise WeightsError(f"{path} is damaged: its parameters do not have the identity that it states")
    if path not in EMBEDDED.values():  # whose shapes a test checks
        _check_shapes(path, weights)
    return weights


def _check_shapes(path: Path, weights: Weights) -> None:
    """Every parameter of the network is there, of its shape; asked once, as tracing the network takes seconds."""
    mark = program_cache.kept(f"shapes of {weights.identity}")
    if mark is not None and cache.read(mark) is not None:
        return
    from tcm_jax.model.tcm import flat_shapes  # imports Flax

    found = {key: value.shape for key, value in flatten(weights.params).items()}
    try:
        with pinned():
            match_parameters(found, flat_shapes(weights.config))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    if mark is not None:
        cache.write_quietly(mark, b"")


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        if kind := special_kind(path.stat().st_mode):  # safetensors would wait for a pipe, and for no signal
            raise WeightsError(f"cannot read the weights {path}: this is {kind}, and no file")
        if path.is_dir():  # safetensors would say "No such device"
            raise WeightsError(f"cannot read the weights {path}: this is a folder; give a .safetensors file")
        with safe_open(path, framework="numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is no safetensors file, or is truncated ({error})") from error
