"""The detail slices after those of y, and what was coded so far, which they depend on (docs/format.md)."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from tcm_jax.codec.decoding_network import DecodingNetwork
from tcm_jax.codec.tiles import Grid


@dataclasses.dataclass
class CodedSlices:
    """What encoder and decoder both know of the slices so far, [h, w, channels] each."""

    y_hat: list[Grid] = dataclasses.field(default_factory=list)
    # int32 symbols and float32 scales of y, which are kept if detail slices follow, and the symbols of those.
    symbols: list[np.ndarray] = dataclasses.field(default_factory=list)
    sigmas: list[np.ndarray] = dataclasses.field(default_factory=list)
    detail_symbols: list[np.ndarray] = dataclasses.field(default_factory=list)
    # What g_s makes of y, float32 [H, W, 3] of the padded picture, if an encoder of detail slices had it in one piece.
    without_details: Grid | None = None

    def keep(self, rows: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Appends what detail slices need of a slice of y: (symbols, sigma) of its rows, one after the other."""
        symbols, sigma = (parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*rows, strict=True))
        self.symbols.append(symbols)
        self.sigmas.append(sigma)


def encode_detail_slices(
    network: DecodingNetwork,
    slices: Iterable[np.ndarray],
    coded: CodedSlices,
    level: np.ndarray,
    tile: int,
    write: Callable[[np.ndarray, np.ndarray], None],
) -> None:
    """Codes detail slices, int32 symbols [h, w, channels], by `write(symbols, sigma)`, and appends them."""
    for symbols in slices:
        write(symbols, _scales(network, coded, level, tile))
        coded.detail_symbols.append(symbols)


def decode_detail_slices(
    network: DecodingNetwork,
    count: int,
    coded: CodedSlices,
    level: np.ndarray,
    tile: int,
    read: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Appends `count` detail slices; `read(sigma)` gives the symbols of the next one."""
    for _ in range(count):
        coded.detail_symbols.append(read(_scales(network, coded, level, tile)))


def _scales(network: DecodingNetwork, coded: CodedSlices, level: np.ndarray, tile: int) -> np.ndarray:
    return np.asarray(network.detail_scales(coded.symbols, coded.sigmas, coded.detail_symbols, level, tile))
