"""What encoder and decoder share of the latents' order: slices, their steps, gain levels (docs/format.md)."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tcm_jax.codec.container import MAX_QUALITY, MIN_QUALITY, Container
from tcm_jax.codec.decoding_network import DecodingNetwork
from tcm_jax.codec.detail_slices import CodedSlices
from tcm_jax.entropy.tables import scale_table
from tcm_jax.model.config import ModelConfig

if TYPE_CHECKING:  # which imports JAX
    from tcm_jax.weights.weights import Weights

_QUALITIES = MAX_QUALITY - MIN_QUALITY


class SliceCodecBase:
    """What `SliceEncoder` and `SliceDecoder` share: weights, a network that runs them, a range coder's name."""

    def __init__(self, weights: "Weights", network: DecodingNetwork, coder: str):
        self.weights, self.network, self.coder = weights, network, coder
        self.model_id = bytes.fromhex(weights.identity)[:8]  # in files

    def level(self, quality: int | None) -> np.ndarray | None:
        """Gain level of a quality in hundredths, float32 [1]."""
        if quality is None:
            return None
        return np.array([gain_level(quality, self.weights.config.levels)], np.float32)

    def detail_count(self, quality: int | None) -> int:
        """How many detail slices a picture of a quality in hundredths has."""
        config = self.weights.config
        return 0 if quality is None else config.detail_slices(gain_level(quality, config.levels))

    def synthesize(self, file: Container, coded: CodedSlices, tile: int | None) -> np.ndarray:
        """The picture's colour, uint8 [H, W, 3], or [H, W] if it is grey: the mean of the channels."""
        size, level = (file.height, file.width), self.level(file.quality)
        colour = self.compute_colour(coded, level, size, tile)
        return ((colour.sum(-1, dtype=np.uint16) + 1) // 3).astype(np.uint8) if file.grey else colour

    def compute_colour(
        self, coded: CodedSlices, level: np.ndarray | None, size: tuple[int, int], tile: int | None
    ) -> np.ndarray:
        """What g_s and the detail slices give, uint8 [H, W, 3] of that size; g_s by tiles of this side (0: one)."""
        return self.network.synthesize(coded.y_hat, coded.detail_symbols, level, size, tile)


def fields_of_steps(config: ModelConfig, shape: tuple[int, ...]) -> list[Any]:
    """Indexes of the symbols of a slice [h, w, channels] coded one after the other: a checkerboard's fields."""
    if config.steps == 1:
        return [slice(None)]
    black = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2 == 0
    return [black, ~black]


def highest_without_details(config: ModelConfig) -> int:
    """The highest quality of a variable-rate model without detail slices, in hundredths."""
    last = config.detail_from[0] if config.detail_from else config.levels - 1
    return MIN_QUALITY + math.floor(_QUALITIES * last / (config.levels - 1))


def gain_level(quality: float, levels: int) -> float:
    """Gain level of a quality in hundredths: 1 and 100 are the first and the last."""
    return (quality - MIN_QUALITY) / _QUALITIES * (levels - 1)


def hyper_indexes(shape: tuple[int, ...]) -> np.ndarray:
    """Table of each hyper-latent: 64 + channel, int32 of `shape` [h, w, channels]."""
    channels = np.arange(len(scale_table()), len(scale_table()) + shape[-1], dtype=np.int32)
    return np.broadcast_to(channels, shape)
