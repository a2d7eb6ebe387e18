"""Checkpoints of the authors' PyTorch code (`jmliu206/LIC_TCM`) to Flax parameters, and back.

The Flax modules carry the reference's names, so the mapping is mechanical: `g_a/layers_3/conv1/kernel` is
`g_a.3.conv1.weight`, `atten_mean_2/in_conv/kernel` is `atten_mean.2.0.in_conv.weight`. Kernels are HWIO here and OIHW
there; a 1x1 kernel is a matrix [in, out] here and [out, in, 1, 1] there. Everything else has the same layout.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tcm_jax.errors import ConfigError, WeightsError
from tcm_jax.model import tcm
from tcm_jax.model.config import ModelConfig, reference_config
from tcm_jax.system.extras import require_extra
from tcm_jax.weights.weights import match_parameters

# What the entropy coder and the bounds of CompressAI 1.1 to 1.2.8 add to a state dict: computed, not trained.
BUFFERS = re.compile(r"(^|\.)(_offset|_quantized_cdf|_cdf_length|scale_table|scale_bound|target|pedestal|bound)$")
OLD_BOTTLENECK = re.compile(r"^entropy_bottleneck\._(matrix|bias|factor)(\d+)$")  # before CompressAI 1.2.7
NEW_BOTTLENECK = {"matrix": "matrices", "bias": "biases", "factor": "factors"}

LIST_ITEM = re.compile(r"^(layers|atten_\w+|cc_\w+_transforms|lrp_transforms|matrices|biases|factors)_(\d+)$")
LEAVES = {"kernel": "weight", "scale": "weight"}
DENSE = {"msa", "mlp"}  # modules whose matrices are Linear in the reference; all others are 1x1 convolutions
WIDTH_KEYS = ("g_a.0.conv1.bias", "g_a.0.conv2.bias", "g_s.0.conv.bias", "h_a.0.conv1.bias")  # each of length 2N


def convert(path: str | Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Configuration and Flax parameters (nested dict of float32 arrays) of the reference checkpoint at `path`.

    Raises WeightsError for a file that is no such checkpoint, MissingExtraError without PyTorch.
    """
    state = read_reference(path)
    try:
        config = infer_config(state)
        return config, to_flax(state, config)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def read_reference(path: str | Path) -> dict[str, np.ndarray]:
    """Trained tensors of a checkpoint, float32, under the names of CompressAI 1.2.8.

    The state dict may be the file itself or its entry `state_dict`; a prefix `module.` is removed, constant and
    coder buffers are dropped. Nothing but tensors and plain containers is unpickled. Raises WeightsError,
    MissingExtraError.
    """
    state = {}
    for key, value in _load_state_dict(path).items():
        name = OLD_BOTTLENECK.sub(
            lambda match: f"entropy_bottleneck.{NEW_BOTTLENECK[match[1]]}.{match[2]}", key.removeprefix("module.")
        )
        if BUFFERS.search(name):
            continue
        if name in state:
            raise WeightsError(f"{path} holds {name} twice, under an older and a newer name")
        state[name] = value.detach().float().numpy()
    return state


def _load_state_dict(path: str | Path) -> Mapping[str, Any]:
    with require_extra("torch", "reading PyTorch checkpoints needs PyTorch"):
        import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # damaged archives raise nearly anything
        forbidden = re.search(r"(?:GLOBAL|class) (\w+\.[\w.]+)", str(error))
        if forbidden:
            raise WeightsError(f"{path} holds a Python object ({forbidden[1]}), which is not loaded") from error
        raise WeightsError(f"{path} is damaged or no PyTorch checkpoint") from error
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path} is a PyTorch file, but holds no state dict")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path} is a PyTorch file, but holds no state dict: {key!r} is no tensor")
    return state


def infer_config(state: Mapping[str, np.ndarray]) -> ModelConfig:
    """The reference's configuration with the N that the shapes show; all other sizes are `to_flax`'s to check.

    Raises WeightsError when no N can be found or the reference cannot have it.
    """
    lengths = [state[name].size for name in WIDTH_KEYS if name in state and state[name].size > 1]
    if not lengths:
        shown = ", ".join(sorted(state)[:5]) or "nothing"
        raise WeightsError(f"no TCM checkpoint: {', '.join(WIDTH_KEYS)} are all missing, while it holds {shown}, ...")
    try:
        return reference_config(lengths[0] // 2)
    except ConfigError as error:
        raise WeightsError(f"no TCM checkpoint: N = {lengths[0] // 2} is impossible ({error})") from error


def to_flax(state: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, Any]:
    """Flax parameters (nested dict of float32 arrays) from tensors under the reference's names.

    Raises one WeightsError that lists every missing and unexpected name and every shape that differs.
    """
    shapes = {path: leaf.shape for path, leaf in flatten_dict(tcm.parameter_shapes(config)).items()}
    expected = {reference_name(path): reference_shape(path, shape) for path, shape in shapes.items()}
    match_parameters({name: value.shape for name, value in state.items()}, expected)
    params = {}
    for path, shape in shapes.items():
        value = state[reference_name(path)]
        if path[-1] == "kernel":
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        params[path] = np.ascontiguousarray(value.reshape(shape), np.float32)
    return unflatten_dict(params)


def from_flax(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inverse of `to_flax`: float32 arrays under the reference's names, buffers not included."""
    state = {}
    for path, value in flatten_dict(params).items():
        value = np.asarray(value, np.float32)
        shape = reference_shape(path, value.shape)
        if path[-1] == "kernel":
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        state[reference_name(path)] = np.ascontiguousarray(value.reshape(shape))
    return state


def reference_name(path: tuple[str, ...]) -> str:
    """Name in the reference's state dict of the Flax parameter at `path`."""
    parts = []
    for part in path:
        item = LIST_ITEM.match(part)
        if item and item[1] == "layers":
            parts.append(item[2])
        elif item and item[1].startswith("atten_"):
            parts += [item[1], item[2], "0"]  # the reference wraps each SWAtten in a Sequential
        elif item:
            parts += [item[1], item[2]]
        else:
            parts.append(LEAVES.get(part, part))
    return ".".join(parts)


def reference_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in the reference of the Flax parameter at `path` with `shape`."""
    if path[-1] != "kernel":
        return tuple(shape)
    *window, inputs, outputs = shape
    if not window and not DENSE & set(path):
        window = [1, 1]
    return (outputs, inputs, *window)
