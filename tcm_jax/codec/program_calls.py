"""Every call that the codec makes of its programs, for who makes these ahead."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE, ModelConfig


def program_calls(config: ModelConfig, height: int = 128, width: int = 128) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Names of `tiled_network.PROGRAMS` and arguments after the parameters, zeros for a picture of so many pixels."""
    h, w, slices = height // LATENT_STRIDE, width // LATENT_STRIDE, config.num_slices
    y, part = np.zeros((h, w, config.latent_channels), np.float32), np.zeros((h, w, config.slice_channels), np.float32)
    z = np.zeros((height // HYPER_STRIDE, width // HYPER_STRIDE, config.hyper_channels), np.int32)
    picture, symbols = np.zeros((height, width, 3), np.uint8), part.astype(np.int32)
    level = np.zeros(1, np.float32) if config.levels else None
    yield "analysis", (picture, level)
    yield "hyper_analysis", (y, level)
    yield "hyper_synthesis", (z, level)
    for i in range(slices):
        support = np.concatenate([y, *[part] * min(i, config.max_support)], axis=-1)
        yield "slice_params", (i, y, y, (part,) * i)
        if config.checkerboard_width:
            yield "second_step", (i, symbols, part, part)
        yield "slice_latents", (i, symbols, part, support)
    yield "synthesis", ([part] * slices, level)
    if not config.detail_channels:
        return
    detail = np.zeros((h, w, config.detail_slice_channels), np.int32)
    yield "detail_analysis", (picture, [part] * slices, level)
    for n in range(len(config.detail_from)):
        yield "detail_scales", (n, (symbols,) * slices, (part,) * slices, (detail,) * n, level)
        yield "with_details", (picture.astype(np.float32), [detail] * (n + 1), level)
        yield "detailed_synthesis", ([part] * slices, [detail] * (n + 1), level)
