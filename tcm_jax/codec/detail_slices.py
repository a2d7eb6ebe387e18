"""The steps of a slice, and the detail slices after those of y, of what the decoded picture lacks (docs/format.md)."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tcm_jax.codec.tiled_network import TiledNetwork
from tcm_jax.codec.tiles import Grid
from tcm_jax.model.config import ModelConfig


@dataclasses.dataclass
class Latents:
    """What was coded of a picture, slice by slice, [h, w, channels] each: what a decoder has, too."""

    y_hat: list[Grid] = dataclasses.field(default_factory=list)
    # int32 symbols and float32 scales of y, which are kept if detail slices follow, and the symbols of those.
    symbols: list[np.ndarray] = dataclasses.field(default_factory=list)
    sigmas: list[np.ndarray] = dataclasses.field(default_factory=list)
    details: list[np.ndarray] = dataclasses.field(default_factory=list)

    def keep(self, symbols: np.ndarray, sigma: np.ndarray) -> None:
        """Appends what detail slices need of a slice of y."""
        self.symbols.append(symbols)
        self.sigmas.append(sigma)


def steps(config: ModelConfig, shape: tuple[int, ...]) -> list[Any]:
    """Indexes of the symbols of a slice [h, w, channels] that are coded one after the other."""
    if config.steps == 1:
        return [slice(None)]
    first = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2 == 0
    return [first, ~first]


def code_details(
    network: TiledNetwork,
    slices: Iterable[np.ndarray],
    latents: Latents,
    level: np.ndarray,
    tile: int,
    write: Callable[[np.ndarray, np.ndarray], None],
) -> None:
    """Codes detail slices, int32 symbols [h, w, channels], by `write(symbols, sigma)`, and appends them."""
    for symbols in slices:
        write(symbols, _scales(network, latents, level, tile))
        latents.details.append(symbols)


def decode_details(
    network: TiledNetwork,
    count: int,
    latents: Latents,
    level: np.ndarray,
    tile: int,
    read: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Appends `count` detail slices; `read(sigma)` gives the symbols of the next one."""
    for _ in range(count):
        latents.details.append(read(_scales(network, latents, level, tile)))


def _scales(network: TiledNetwork, latents: Latents, level: np.ndarray, tile: int) -> np.ndarray:
    return np.asarray(network.detail_scales(latents.symbols, latents.sigmas, latents.details, level, tile))
