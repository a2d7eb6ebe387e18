"""The latents of a picture to symbols and a stream, slice by slice (docs/format.md)."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np

from tcm_jax.codec.decoded_slice import DecodedSlice
from tcm_jax.codec.detail_slices import CodedSlices, encode_detail_slices
from tcm_jax.codec.effort import Effort, lambda_of, tune_of
from tcm_jax.codec.latent_context import LatentContext
from tcm_jax.codec.slices import SliceCodecBase, fields_of_steps, hyper_indexes
from tcm_jax.codec.streams import StreamWriter
from tcm_jax.codec.symbols import Measured, SymbolWriter
from tcm_jax.codec.tiled_network import TiledNetwork
from tcm_jax.codec.tiles import Grid, HeldRows, Span
from tcm_jax.errors import WeightsError
from tcm_jax.model.config import LATENT_STRIDE

_LARGEST_SYMBOL = 2**20  # of a trained network: larger ones say that the weights are none


class SliceEncoder(SliceCodecBase):
    """Codes the latents of pictures."""

    network: TiledNetwork

    def improvement(
        self, picture: np.ndarray, quality: int | None, effort: Effort
    ) -> Callable[[list[np.ndarray], list[Grid]], float] | None:
        """What `encode` takes as `improve` for this effort, None for none. Weights without lambda raise ConfigError."""
        if not effort.steps:
            return None
        level, details = self.level(quality), self.detail_count(quality)
        lam = lambda_of(self.weights, None if level is None else float(level[0]))
        effort = dataclasses.replace(effort, tune=effort.tune or tune_of(self.weights))
        from tcm_jax.codec.refinement import refine  # imports JAX

        return functools.partial(refine, self.network, picture, level, lam, effort, details=details)

    def encode(
        self,
        colour: np.ndarray,
        quality: int | None,
        guard_band: float,
        tile: int,
        transform_tile: int | None,
        measured: Measured,
        improve: Callable[[list[np.ndarray], list[Grid]], object] | None = None,
    ) -> tuple[StreamWriter, bytes | None]:
        """A picture uint8 [H, W, 3] to (stream and checksums of z and every slice, the file's sides).

        `quality` is in hundredths. `tile` is the side of the entropy model's tiles, `transform_tile` that of the
        transforms' (None: see `TiledNetwork`). `improve(y, context)` may replace the slices of y, in place, before they
        are coded. The caller finishes the stream's encoder. Raises WeightsError for latents of untrained weights.
        """
        level, detail_count = self.level(quality), self.detail_count(quality)
        y, latent_z = self.network.analyze(colour, level, transform_tile)
        writer = SymbolWriter(self.network, self.weights.tables, self.coder, guard_band, measured)
        z, coded = _rounded(latent_z), CodedSlices()
        writer.write_hyper(hyper_indexes(z.shape), z)
        context = self.network.hyper(z, level, tile)
        if improve is not None:
            improve(y, context.whole())
        if measured.kept:
            measured.coded = coded
        for i in range(self.weights.config.num_slices):
            goes_on = detail_count > 0 or measured.kept or i < self.weights.config.num_slices - 1
            self._encode_slice(i, y.pop(0), context, coded, tile, writer, detail_count > 0, goes_on)
        if level is not None and detail_count:
            slices, made = self.network.analyze_details(colour, coded.y_hat, detail_count, level, transform_tile)
            coded.without_details = made if measured.kept else None
            encode_detail_slices(self.network, map(_rounded, slices), coded, level, tile, writer.write_part)
        return writer.stream, writer.sides.pack()

    def compute_colour(
        self, coded: CodedSlices, level: np.ndarray | None, size: tuple[int, int], tile: int | None
    ) -> np.ndarray:
        """As a decoder; what g_s made is not computed again."""
        if coded.without_details is None or tile != 0:
            return super().compute_colour(coded, level, size, tile)
        whole = self.network.compute("with_details", coded.without_details, coded.detail_symbols, level)
        return np.ascontiguousarray(np.asarray(whole)[: size[0], : size[1]])

    def _encode_slice(
        self,
        i: int,
        y: np.ndarray,
        context: LatentContext,
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
        for rows, symbols, mu, sigma, support in self._rows_with_params(i, y, params, tile, writer):
            if goes_on:  # started before the coding, beside which the device computes it
                decoded.add(rows, symbols, mu, support[0])
            del mu, support
            if keep:
                kept.append((symbols, sigma))
            fields = fields_of_steps(self.weights.config, symbols.shape)[-1]
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

    def _rows_with_params(
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
            first = fields_of_steps(self.weights.config, symbols.shape)[0]
            writer.write(symbols[first], np.asarray(sigma)[first])
            for tiles in held.add(rows, (symbols, mu, sigma, *support)):
                seen, mu, sigma = held.cut(tiles.start, tiles.stop)[:3]
                grids = self.network.second_step(i, seen, mu, sigma, tile)
                mu, sigma = (tiles.cut_to_kept(grid, LATENT_STRIDE) for grid in grids)
                del seen
                symbols = _rounded(y[tiles.kept(LATENT_STRIDE)] - np.asarray(mu))
                yield tiles, symbols, mu, np.asarray(sigma), held.cut(tiles.first, tiles.last)[3:]


def _rounded(residual: np.ndarray) -> np.ndarray:
    """The nearest integers, int32. Raises WeightsError for some that no trained network has."""
    if not -_LARGEST_SYMBOL <= residual.min(initial=0) <= residual.max(initial=0) <= _LARGEST_SYMBOL:  # nor for NaN
        raise WeightsError("these weights give latents that cannot be coded: they are not trained, or are damaged")
    return np.rint(residual, out=np.empty(residual.shape, np.int32), casting="unsafe")
