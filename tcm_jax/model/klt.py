"""Initial parameters that make the transforms a Karhunen-Loeve transform: training starts from a codec that works.

The skips of g_a and g_s alone form an orthonormal block transform and its inverse, taken from pictures by principal
component analysis of 2x2 blocks, stage after stage; everything beside the skips starts as zero. Quantization steps
follow from lambda at high rate, and every channel's scale from the pictures. No source: it is how this project starts
its small networks, which then need thousands of steps less (docs/experiments/2026-11-26-designs.md).
"""

import math
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tcm_jax import ops
from tcm_jax.errors import ConfigError
from tcm_jax.model.config import ModelConfig

MID_GREY = 0.5


def quantization_step(lam: float) -> float:
    """Step of orthonormal coefficients of pictures in [0, 1] that minimizes lam * 255**2 * MSE + bpp at high rates.

    MSE step**2 / 12 and 3 * log2(1 / step) bits a pixel, whose sum is stationary here.
    """
    return math.sqrt(18 / (lam * 255**2 * math.log(2)))


def check_klt(config: ModelConfig) -> None:
    """Raises ConfigError for a network of one rate, or one whose skips cannot hold a linear transform."""
    if not config.levels or config.skip != "shuffled" or config.attention == "transforms":
        raise ConfigError(
            "initialization klt needs model.levels of 2 or more, model.skip shuffled and model.attention not transforms"
        )


def start_from_klt(
    params: dict[str, Any], config: ModelConfig, pictures: np.ndarray, lams: tuple[float, ...]
) -> dict[str, Any]:
    """Nested parameters like `params`, of a network that codes by the KLT of `pictures`, uint8 [B, H, W, 3].

    Sides are multiples of 16; `lams` are the lambdas of the gain levels, whose gains hold the quantization steps.
    Raises ConfigError as `check_klt` does.
    """
    check_klt(config)
    bases, deviations = _analyse(pictures.astype(np.float32) / 255 - MID_GREY, config)
    steps = np.array([quantization_step(lam) for lam in lams])
    order = np.arange(config.latent_channels).reshape(-1, config.num_slices).T.ravel()
    bases[-1], deviations = bases[-1][:, order], deviations[order]  # every slice has its share of strong channels
    flat = flatten_dict(params, sep="/")
    _silence(flat)
    _set_analysis(flat, bases, config)
    _set_synthesis(flat, bases, config)
    for name, gains in (("gain_y", 1 / steps), ("inverse_gain_y", steps)):
        flat[f"{name}/log_gain"] = np.broadcast_to(np.log(gains)[:, None], flat[f"{name}/log_gain"].shape)
    for i, part in enumerate(np.split(deviations / np.median(steps), config.num_slices)):
        flat[f"cc_scale_transforms_{i}/layers_4/bias"] = part
    return unflatten_dict({name: value.astype(np.float32) for name, value in flat.items()}, sep="/")


def _analyse(x: np.ndarray, config: ModelConfig) -> tuple[list[np.ndarray], np.ndarray]:
    """(orthonormal columns [4 * C, features] of each of the four stages, deviation of each channel of y)."""
    bases = []
    for features in (*config.widths, config.latent_channels):
        x = np.asarray(ops.pixel_unshuffle(x))
        vectors = x.reshape(-1, x.shape[-1])
        _, columns = np.linalg.eigh((vectors.T @ vectors).astype(np.float64) / len(vectors))  # weakest first
        bases.append(columns[:, ::-1][:, :features].astype(np.float32))
        x = x @ bases[-1]
    return bases, np.sqrt(np.mean(x**2, axis=(0, 1, 2)))


def _silence(flat: dict[str, np.ndarray]) -> None:
    """Zeroes the last layers of whatever is added to the skips, and of the slices' networks."""
    last = {"g_a": ("conv2", "conv1_2"), "g_s": ("conv", "conv1_2")}
    for name in flat:
        top, layer = name.split("/")[0], name.split("/")[-2]
        in_slices = top.startswith(("cc_", "lrp_")) and layer == "layers_4"
        beside_skips = layer in last.get(top, ()) and "conv_block" not in name
        if name.endswith("/kernel") and (in_slices or beside_skips):
            flat[name] = np.zeros_like(flat[name])


def _blocks(names: Any, top: str, layer: str) -> list[str]:
    """Names of the kernels of the blocks with stride of g_a or g_s, outermost grid of pixels or latents first."""
    found = [name for name in names if name.startswith(f"{top}/") and name.endswith(f"/{layer}/kernel")]
    return sorted(found, key=lambda name: int(name.split("/")[1].removeprefix("layers_")))


def _set_analysis(flat: dict[str, np.ndarray], bases: list[np.ndarray], config: ModelConfig) -> None:
    for name, basis in zip(_blocks(flat, "g_a", "skip"), bases, strict=False):
        kernel = np.zeros_like(flat[name])  # [4 * C, features], of which the basis may fill a part
        used, features = basis.shape[0] // 4, basis.shape[1]
        kernel.reshape(4, -1, kernel.shape[1])[:, :used, :features] = basis.reshape(4, used, features)
        flat[name] = kernel
    first = _blocks(flat, "g_a", "skip")[0]
    flat[first.replace("kernel", "bias")] = -MID_GREY * flat[first].sum(axis=0)
    name = f"g_a/layers_{3 + sum(config.depths)}/kernel"  # 3x3, stride 2: rows and columns 1 and 2 are the block
    kernel = np.zeros_like(flat[name])
    kernel[1:, 1:, : bases[-1].shape[0] // 4] = bases[-1].reshape(2, 2, -1, config.latent_channels)
    flat[name] = kernel


def _set_synthesis(flat: dict[str, np.ndarray], bases: list[np.ndarray], config: ModelConfig) -> None:
    last = f"g_s/layers_{3 + sum(config.depths)}/layers_0/kernel"
    names = [*_blocks(flat, "g_s", "upsample/layers_0"), last]
    for name, basis in zip(names, bases[::-1], strict=True):
        kernel = np.zeros_like(flat[name])  # [3, 3, C, 4 * features], outputs ordered (feature, row, column)
        used, features = basis.shape[1], basis.shape[0] // 4
        inverse = basis.T.reshape(used, 4, features).swapaxes(1, 2)
        kernel[1, 1].reshape(kernel.shape[2], -1, 4)[:used, :features] = inverse
        flat[name] = kernel
    flat[last.replace("kernel", "bias")] = np.full_like(flat[last.replace("kernel", "bias")], MID_GREY)
