"""The latents of a picture as symbols, slice by slice, in the order that encoder and decoder share (docs/format.md)."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tcm_jax.codec.container import Container
from tcm_jax.codec.decoded_slice import DecodedSlice, HeldRows
from tcm_jax.codec.detail_slices import CodedSlices, decode_detail_slices, encode_detail_slices
from tcm_jax.codec.streams import StreamWriter
from tcm_jax.codec.symbols import Measured, SymbolReader, SymbolWriter
from tcm_jax.codec.tiles import Grid, Span
from tcm_jax.entropy.tables import scale_table
from tcm_jax.errors import StreamError, WeightsError
from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE, ModelConfig, padded_size

if TYPE_CHECKING:  # what encodes imports JAX
    from tcm_jax.codec.effort import Effort
    from tcm_jax.codec.tiled_network import TiledNetwork
    from tcm_jax.weights.weights import Weights

_LARGEST_SYMBOL = 2**20  # of a trained network: larger ones say that the weights are none


class SliceCoder:
    """Codes latents with one set of weights; `coder` names the range coder."""

    def __init__(self, weights: "Weights", network: "TiledNetwork", coder: str):
        self.weights, self.network, self.coder = weights, network, coder

    def level(self, quality: int | None) -> np.ndarray | None:
        """Gain level of a quality in hundredths, float32 [1]."""
        if quality is None:
            return None
        return np.array([gain_level(quality, self.weights.config.levels)], np.float32)

    def detail_count(self, quality: int | None) -> int:
        """How many detail slices a picture of a quality in hundredths has."""
        config = self.weights.config
        return 0 if quality is None else config.detail_slices(gain_level(quality, config.levels))

    def improvement(
        self, picture: np.ndarray, quality: int | None, effort: "Effort"
    ) -> Callable[[list[np.ndarray], list[Grid]], float] | None:
        """What `encode` takes as `improve` for this effort, None for none. Weights without lambda raise ConfigError."""
        if not effort.steps:
            return None
        from tcm_jax.codec.effort import lambda_of, refine, tune_of

        level, details = self.level(quality), self.detail_count(quality)
        lam = lambda_of(self.weights, None if level is None else float(level[0]))
        effort = dataclasses.replace(effort, tune=effort.tune or tune_of(self.weights))
        return functools.partial(refine, self.network, picture, level, lam, effort, details=details)

    def encode(
        self,
        colour: np.ndarray,
        quality: int | None,
        guard_band: float,
        tile: int,
        side: int | None,
        measured: Measured,
        improve: Callable[[list[np.ndarray], list[Grid]], object] | None = None,
    ) -> tuple[StreamWriter, bytes | None]:
        """A picture uint8 [H, W, 3] to (stream and checksums of z and every slice, the file's sides).

        `tile` is the side of the entropy model's tiles, `side` that of the transforms' (None: see `TiledNetwork`).
        `improve(y, context)` may replace the slices of y, in place, before they are coded.
        """
        level, detail_count = self.level(quality), self.detail_count(quality)
        y, latent_z = self.network.analyze(colour, level, side)
        writer = SymbolWriter(self.network, self.weights.tables, self.coder, guard_band, measured)
        z, coded = _rounded(latent_z), CodedSlices()
        writer.write_hyper(_hyper_indexes(z.shape), z)
        context = self.network.hyper(z, level, tile)
        if improve is not None:
            improve(y, context)
        if measured.kept:
            measured.coded = coded
        for i in range(self.weights.config.num_slices):
            goes_on = detail_count > 0 or measured.kept or i < self.weights.config.num_slices - 1
            self._encode_slice(i, y.pop(0), context, coded, tile, writer, detail_count > 0, goes_on)
        if level is not None and detail_count:
            slices = self.network.analyze_details(colour, coded.y_hat, detail_count, level, side)
            encode_detail_slices(self.network, map(_rounded, slices), coded, level, tile, writer.write_part)
        return writer.stream, writer.sides.pack()

    def _encode_slice(
        self,
        i: int,
        y: np.ndarray,
        context: list[Grid],
        coded: CodedSlices,
        tile: int,
        writer: SymbolWriter,
        keep: bool,
        goes_on: bool,
    ) -> None:
        """Codes one slice `y`, which is overwritten; if it `goes_on`, appends it to the decoded ones.

        Grids of its own are gone before the next one's, or kept, if detail slices follow (`keep`).
        """
        decoded, kept = DecodedSlice(self.network, i, LATENT_STRIDE * len(y), tile, out=y), []
        params = self.network.slice_params(i, context, coded.y_hat, tile, with_support=goes_on)
        steps, later = self.weights.config.steps, []
        for rows, symbols, mu, sigma, support in self._known(i, y, params, tile, writer):
            if goes_on:  # started before the coding, beside which the device computes it
                decoded.add(rows, symbols, mu, support[0])
            del mu, support
            if keep:
                kept.append((symbols, sigma))
            fields = _steps(self.weights.config, symbols.shape)[-1]
            if steps == 1:
                writer.write(symbols[fields], sigma[fields])
            else:  # after the first step of all rows
                later.append((symbols[fields], sigma[fields]))
        writer.stream.end_part()
        for part in later:
            writer.write(*part)
        if later:
            writer.stream.end_part()
        if keep:
            coded.keep(kept)
        if goes_on:
            coded.y_hat.append(decoded.grid)

    def _known(
        self, i: int, y: np.ndarray, params: Iterator[tuple[Span, list[Grid]]], tile: int, writer: SymbolWriter
    ) -> Iterator[tuple[Span, np.ndarray, Grid, np.ndarray, list[Grid]]]:
        """From the top down rows of a slice: int32 symbols, mu and sigma of their last step, and the support if any.

        A first step's symbols are written meanwhile.
        """
        held = HeldRows(LATENT_STRIDE * len(y), tile)
        for rows, (mu, sigma, *support) in params:
            symbols = _rounded(y[rows.kept(LATENT_STRIDE)] - np.asarray(mu))
            if self.weights.config.steps == 1:
                yield rows, symbols, mu, np.asarray(sigma), support
                continue
            first = _steps(self.weights.config, symbols.shape)[0]
            writer.write(symbols[first], np.asarray(sigma)[first])
            for tiles in held.add(rows, (symbols, mu, sigma, *support)):
                grids = self.network.second_step(i, *held.cut(tiles.start, tiles.stop)[:3], tile)
                mu, sigma = (tiles.cut_to_kept(grid, LATENT_STRIDE) for grid in grids)
                symbols = _rounded(y[tiles.kept(LATENT_STRIDE)] - np.asarray(mu))
                yield tiles, symbols, mu, np.asarray(sigma), held.cut(tiles.first, tiles.last)[3:]

    def decode(self, file: Container) -> CodedSlices:
        """Decodes the slices of a file; stops at the first one whose symbols are not the encoder's."""
        config = self.weights.config
        rows, columns = padded_size(file.height, file.width)
        reader = SymbolReader(file, self.weights.tables, self.coder)
        z = reader.stream.read([_hyper_indexes((rows // HYPER_STRIDE, columns // HYPER_STRIDE, config.hyper_channels))])
        if z is None:
            raise StreamError("the file is altered: its hyper-latents do not have the checksum that it states")
        level, detail_count = self.level(file.quality), self.detail_count(file.quality)
        context, coded = self.network.hyper(z, level, file.tile), CodedSlices()
        by_rows = config.steps == 1 and not file.corrections and 0 < file.tile < rows
        for i in range(config.num_slices):
            if not (by_rows and self._decode_rows(i, context, coded, file.tile, reader, detail_count > 0)):
                self._decode_slice(i, context, coded, file.tile, reader, detail_count > 0)
        if level is not None and detail_count:
            decode_detail_slices(self.network, detail_count, coded, level, file.tile, reader.read_part)
        reader.stream.finish()
        return coded

    def _decode_rows(
        self, i: int, context: list[Grid], coded: CodedSlices, tile: int, reader: SymbolReader, keep: bool
    ) -> bool:
        """`_decode_slice` by rows of tiles, whose grids are never all there. False: a table must be searched for."""
        decoded, kept = DecodedSlice(self.network, i, LATENT_STRIDE * len(context[0]), tile), []
        for rows, (mu, sigma, support) in self.network.slice_params(i, context, coded.y_hat, tile):
            symbols = reader.read_rows(np.asarray(sigma))
            if symbols is None:
                break
            decoded.add(rows, symbols, mu, support)
            del mu, support
            if keep:
                kept.append((symbols, np.asarray(sigma)))
        if not reader.end_part(symbols is not None):
            return False
        if keep:
            coded.keep(kept)
        coded.y_hat.append(decoded.grid)
        return True

    def _decode_slice(
        self, i: int, context: list[Grid], coded: CodedSlices, tile: int, reader: SymbolReader, keep: bool
    ) -> None:
        """Decodes the next slice; other grids of its own are gone before the next one's, or kept (`keep`)."""
        ((_, (mu, sigma, support)),) = self.network.slice_params(i, context, coded.y_hat, tile, whole=True)
        symbols: np.ndarray = np.zeros(mu.shape, np.int32)
        for step, fields in enumerate(_steps(self.weights.config, symbols.shape)):
            if step:
                mu, sigma = self.network.second_step(i, symbols, mu, sigma, tile)
            symbols[fields] = reader.read_part(np.asarray(sigma)[fields])
        if keep:
            coded.keep([(symbols, np.asarray(sigma))])
        del sigma
        coded.y_hat.append(self.network.slice_latents(i, symbols, mu, support, tile))


def _steps(config: ModelConfig, shape: tuple[int, ...]) -> list[Any]:
    """Indexes of the symbols of a slice [h, w, channels] coded one after the other: a checkerboard's fields."""
    if config.steps == 1:
        return [slice(None)]
    black = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2 == 0
    return [black, ~black]


def highest_plain(config: ModelConfig) -> int:
    """The highest quality of a variable-rate model without detail slices, in hundredths."""
    last = config.detail_from[0] if config.detail_from else config.levels - 1
    return 100 + math.floor(9900 * last / (config.levels - 1))


def gain_level(quality: int, levels: int) -> float:
    """Gain level of a quality in hundredths: 1 and 100 are the first and the last."""
    return (quality - 100) / 9900 * (levels - 1)


def _rounded(residual: np.ndarray) -> np.ndarray:
    """The nearest integers, int32. Raises WeightsError for some that no trained network has."""
    if not -_LARGEST_SYMBOL <= residual.min(initial=0) <= residual.max(initial=0) <= _LARGEST_SYMBOL:  # nor for NaN
        raise WeightsError("these weights give latents that cannot be coded: they are not trained, or are damaged")
    return np.rint(residual, out=np.empty(residual.shape, np.int32), casting="unsafe")


def _hyper_indexes(shape: tuple[int, ...]) -> np.ndarray:
    """Table of each hyper-latent: 64 + channel, int32 of `shape` [h, w, channels]."""
    channels = np.arange(len(scale_table()), len(scale_table()) + shape[-1], dtype=np.int32)
    return np.broadcast_to(channels, shape)
