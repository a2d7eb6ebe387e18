"""Detail slices in a file: coded after those of y, of what the decoded picture lacks (docs/format.md)."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from tcm_jax.codec.tiled_network import TiledNetwork
from tcm_jax.codec.tiles import Grid


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

    def coded(self) -> int:
        """How many symbols of y and of detail there are, if those of y are kept."""
        return sum(part.size for part in (*self.symbols, *self.details))


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
    numbers: Iterable[int],
    latents: Latents,
    level: np.ndarray,
    tile: int,
    read: Callable[[int, np.ndarray], np.ndarray],
) -> None:
    """Appends the detail slices, which have `numbers` among all slices; `read(number, sigma)` gives their symbols."""
    for number in numbers:
        latents.details.append(read(number, _scales(network, latents, level, tile)))


def _scales(network: TiledNetwork, latents: Latents, level: np.ndarray, tile: int) -> np.ndarray:
    return np.asarray(network.detail_scales(latents.symbols, latents.sigmas, latents.details, level, tile))
