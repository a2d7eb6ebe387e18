"""A model as ONNX programs for any size of picture, and `model.json` with what a decoder needs besides (docs/onnx.md).

The programs are the codec's own (`tiled_network.py`), traced with symbolic sizes for a target without kernels.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.export import SymbolicScope, symbolic_shape

from tcm_jax import ops
from tcm_jax.codec.guard_band import GUARD_BAND
from tcm_jax.codec.onnx.convert import convert
from tcm_jax.codec.onnx.decoder import DESCRIPTION, FORMAT
from tcm_jax.codec.programs import Program
from tcm_jax.codec.tiled_network import PROGRAMS
from tcm_jax.codec.tiles import ANALYSIS_HALO, ENTROPY_HALO, SYNTHESIS_HALO
from tcm_jax.entropy.tables import scale_table
from tcm_jax.errors import TcmError
from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE, PAD_MULTIPLE, ModelConfig
from tcm_jax.system.devices import with_pinned
from tcm_jax.system.files import atomic_write
from tcm_jax.weights.weights import Weights


@with_pinned
def export_onnx(folder: str | os.PathLike, weights: Weights) -> int:
    """Writes one ONNX file a program, then `model.json`, into a folder, made if need be; returns their bytes.

    Raises TcmError for a folder that cannot be written to.
    """
    models = {name: _converted(weights, exported) for name, exported in _programs(weights.config).items()}
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TcmError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    programs, total = {}, 0
    for name, (model, arguments) in models.items():
        inputs, outputs = ([one.name for one in some] for some in (model.graph.input, model.graph.output))
        programs[name] = {"arguments": arguments, "inputs": inputs, "outputs": outputs}
        total += _write(Path(folder) / f"{name}.onnx", model.SerializeToString(deterministic=True))
    return total + _write(Path(folder) / DESCRIPTION, json.dumps(_description(weights, programs)).encode())


def _write(path: Path, data: bytes) -> int:
    atomic_write(path, data)
    return len(data)


def _description(weights: Weights, programs: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": weights.name,
        "identity": weights.identity,
        "config": json.loads(weights.config.to_json()),
        "num_slices": weights.config.num_slices,
        "lookup": weights.tables.lookup.tolist(),
        "offsets": weights.tables.offsets.tolist(),
        "scales": [float(scale) for scale in scale_table()],
        "guard_band": GUARD_BAND,
        "strides": {"y": LATENT_STRIDE, "z": HYPER_STRIDE, "pad": PAD_MULTIPLE},
        "halos": {"analysis": ANALYSIS_HALO, "entropy": ENTROPY_HALO, "synthesis": SYNTHESIS_HALO},
        "programs": programs,
    }


@dataclasses.dataclass(frozen=True)
class _Input:
    """A grid [h, w, channels] of any size, with so many pixels a position; of stride 0 it is the gain level [1]."""

    name: str
    stride: int
    channels: int
    dtype: Any = jnp.float32

    def spec(self, h: Any, w: Any) -> jax.ShapeDtypeStruct:
        """Its shape and dtype, of pictures that are padded to 128 h rows of 128 w pixels."""
        if not self.stride:
            return jax.ShapeDtypeStruct((self.channels,), self.dtype)
        factor = PAD_MULTIPLE // self.stride
        return jax.ShapeDtypeStruct((factor * h, factor * w, self.channels), self.dtype)

    def numbered(self, count: int) -> list["_Input"]:
        """The inputs `name_0`, `name_1`, ..."""
        return [dataclasses.replace(self, name=f"{self.name}_{i}") for i in range(count)]


@dataclasses.dataclass(frozen=True)
class _Exported:
    """What becomes of a program of the network: its integer, its grids as it takes them, the names of its results."""

    program: Program
    static: tuple[int, ...]
    inputs: Any
    outputs: list[str]


def _programs(c: ModelConfig) -> dict[str, _Exported]:
    level = _Input("level", 0, 1) if c.levels else None
    picture, y = _Input("picture", 1, 3, jnp.uint8), _Input("y", LATENT_STRIDE, c.latent_channels)
    z = _Input("z", HYPER_STRIDE, c.hyper_channels, jnp.int32)
    means, scales = (dataclasses.replace(y, name=name) for name in ("latent_means", "latent_scales"))
    symbols = _Input("symbols", LATENT_STRIDE, c.slice_channels, jnp.int32)
    mu, sigma, part = (_Input(name, LATENT_STRIDE, c.slice_channels) for name in ("mu", "sigma", "y_hat"))
    y_hat = part.numbered(c.num_slices)
    found = {
        "analysis": _Exported(PROGRAMS["analysis"], (), (picture, level), ["y"]),
        "hyper_analysis": _Exported(PROGRAMS["hyper_analysis"], (), (y, level), ["z"]),
        "hyper_synthesis": _Exported(PROGRAMS["hyper_synthesis"], (), (z, level), [means.name, scales.name]),
        "synthesis": _Exported(PROGRAMS["synthesis"], (), (y_hat, level), ["picture"]),
    }
    for i in range(c.num_slices):
        earlier = y_hat[:i]
        support = _Input("support", LATENT_STRIDE, c.latent_channels + c.slice_channels * min(i, c.max_support))
        outputs = ["mu", "sigma", "support"]
        found[f"slice_params_{i}"] = _Exported(PROGRAMS["slice_params"], (i,), (means, scales, earlier), outputs)
        found[f"slice_latents_{i}"] = _Exported(PROGRAMS["slice_latents"], (i,), (symbols, mu, support), ["y_hat"])
        if c.checkerboard_width:
            outputs = ["second_mu", "second_sigma"]
            found[f"second_step_{i}"] = _Exported(PROGRAMS["second_step"], (i,), (symbols, mu, sigma), outputs)
    all_symbols, sigmas = symbols.numbered(c.num_slices), sigma.numbered(c.num_slices)
    details = _Input("detail", LATENT_STRIDE, c.detail_slice_channels, jnp.int32).numbered(len(c.detail_from))
    for i in range(len(details)):
        seen = all_symbols, sigmas, details[:i], level
        found[f"detail_scales_{i}"] = _Exported(PROGRAMS["detail_scales"], (i,), seen, ["sigma"])
    if details:
        found["detailed_synthesis"] = _Exported(
            PROGRAMS["detailed_synthesis"], (), (y_hat, details, level), ["picture"]
        )
        outputs = [*(detail.name for detail in details), "without_details"]
        found["detail_analysis"] = _Exported(PROGRAMS["detail_analysis"], (), (picture, y_hat, level), outputs)
    return found


def _converted(weights: Weights, exported: _Exported) -> tuple[Any, list[str]]:
    """One program as an ONNX model, whose inputs are those that it uses, and the names of all its inputs."""
    inputs, structure = jax.tree.flatten(exported.inputs)
    leaves, parameters = jax.tree.flatten(weights.params)
    traced = exported.program.traced(ops.Target("onnx"), weights.config, parameters, exported.static)

    def function(leaves, *grids):
        return traced(leaves, *jax.tree.unflatten(structure, grids))

    scope = SymbolicScope()
    sides = [symbolic_shape(side, scope=scope)[0] for side in ("h", "w")]
    closed = jax.make_jaxpr(function)(leaves, *(one.spec(*sides) for one in inputs))
    names = [one.name for one in inputs]
    return convert(closed, leaves, names, exported.outputs), names
