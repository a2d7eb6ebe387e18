"""Weights and their identity, without the network: a process that finds its programs kept needs no Flax."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tcm_jax.entropy.range_tables import RangeTables
from tcm_jax.errors import WeightsError
from tcm_jax.model.config import ModelConfig


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by their paths, components joined by "/"."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    params: dict[str, Any] = {}
    for path, value in flat.items():
        *modules, leaf = path.split("/")
        inner = params
        for name in modules:
            inner = inner.setdefault(name, {})
        inner[leaf] = value
    return params


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained model as it is stored and loaded: everything that a codec needs."""

    config: ModelConfig
    params: dict[str, Any]  # nested, float32 arrays
    tables: RangeTables
    metadata: dict[str, str]  # free text about the training; no part of the identity

    @property
    def name(self) -> str:
        """What the model is called in tables and messages."""
        return self.metadata.get("name", "unnamed")

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256, hexadecimal, of the configuration, every parameter in float32, and the tables."""
        digest = hashlib.sha256(self.config.to_json().encode())
        arrays = {**flatten(self.params), **table_arrays(self.tables)}
        for key in sorted(arrays):
            array = np.ascontiguousarray(arrays[key])
            digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.hexdigest()


def table_arrays(tables: RangeTables) -> dict[str, np.ndarray]:
    """The integer tables by the names under which they are stored."""
    return {"tables/lookup": tables.lookup, "tables/offsets": tables.offsets}


def match_parameters(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises one WeightsError with every missing and unexpected name and every shape that differs, if any does."""
    problems = []
    if missing := [f"{name} {expected[name]}" for name in sorted(expected.keys() - found.keys())]:
        problems.append(f"{len(missing)} missing in the checkpoint: {', '.join(missing)}")
    if unexpected := [f"{name} {found[name]}" for name in sorted(found.keys() - expected.keys())]:
        problems.append(f"{len(unexpected)} in the checkpoint but not in the model: {', '.join(unexpected)}")
    both = sorted(expected.keys() & found.keys())
    if differ := [f"{name} {found[name]} for {expected[name]}" for name in both if found[name] != expected[name]]:
        problems.append(f"{len(differ)} of another shape than the model's: {', '.join(differ)}")
    if problems:
        raise WeightsError(f"the parameters do not fit the model: {'; '.join(problems)}")
