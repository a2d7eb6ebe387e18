"""A file's stream to latents, slice by slice (docs/format.md)."""

import numpy as np

from tcm_jax.codec.container import Container
from tcm_jax.codec.decoded_slice import DecodedSlice
from tcm_jax.codec.detail_slices import CodedSlices, decode_detail_slices
from tcm_jax.codec.latent_context import LatentContext
from tcm_jax.codec.slices import SliceCodecBase, fields_of_steps, hyper_indexes
from tcm_jax.codec.symbols import SymbolReader
from tcm_jax.errors import StreamError
from tcm_jax.model.config import HYPER_STRIDE, padded_size


class SliceDecoder(SliceCodecBase):
    """Decodes the latents of files."""

    def decode(self, file: Container) -> CodedSlices:
        """Decodes the slices of a file.

        Raises StreamError for a file that was altered, ArithmeticMismatchError at a slice whose symbols are not the
        encoder's.
        """
        config = self.weights.config
        rows, columns = padded_size(file.height, file.width)
        reader = SymbolReader(file, self.weights.tables, self.coder)
        z = reader.stream.read([hyper_indexes((rows // HYPER_STRIDE, columns // HYPER_STRIDE, config.hyper_channels))])
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
        self, i: int, context: LatentContext, coded: CodedSlices, tile: int, reader: SymbolReader, keep: bool
    ) -> bool:
        """`_decode_slice` by rows of tiles, whose grids are never all there. False: a table must be searched for."""
        decoded, kept = DecodedSlice(self.network, i, context.size[0], tile), []
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
        self, i: int, context: LatentContext, coded: CodedSlices, tile: int, reader: SymbolReader, keep: bool
    ) -> None:
        """Decodes the next slice to `coded`; if detail slices follow (`keep`), with its symbols and scales."""
        mu, sigma, support = self.network.whole_slice_params(i, context, coded.y_hat, tile)
        symbols: np.ndarray = np.zeros(mu.shape, np.int32)
        for step, fields in enumerate(fields_of_steps(self.weights.config, symbols.shape)):
            if step:
                mu, sigma = self.network.second_step(i, symbols, mu, sigma, tile)
            symbols[fields] = reader.read_part(np.asarray(sigma)[fields])
        if keep:
            coded.keep([(symbols, np.asarray(sigma))])
        del sigma
        coded.y_hat.append(self.network.slice_latents(i, symbols, mu, support, tile))
