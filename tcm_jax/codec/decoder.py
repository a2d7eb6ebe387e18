"""Bytes of `.tcm` files to pictures (docs/format.md), whatever the network runs on."""

import abc
from numbers import Integral
from typing import Any

import numpy as np

from tcm_jax.codec.alpha_and_metadata import unpack_metadata, unpack_plane
from tcm_jax.codec.container import MAX_TILE, MIN_TILE, Container, parse
from tcm_jax.codec.decoding_network import DecodingNetwork
from tcm_jax.codec.residual.layer import ChecksumError, decode_layer
from tcm_jax.codec.slice_decoder import SliceDecoder
from tcm_jax.entropy import coders
from tcm_jax.errors import ConfigError, ModelMismatchError, StreamError
from tcm_jax.images.limits import MAX_PIXELS
from tcm_jax.images.picture import Picture
from tcm_jax.model.config import PAD_MULTIPLE
from tcm_jax.weights.embedded import EARLIER_EMBEDDED


def check_identity(model_id: bytes, weights: Any) -> None:
    """Raises ModelMismatchError if a file's `model_id` is not that of the weights."""
    loaded = weights.identity[:16]
    if model_id.hex() != loaded:
        earlier = EARLIER_EMBEDDED.get(model_id.hex())
        raise ModelMismatchError(
            f"this file was written with model {model_id.hex()}, but the weights loaded are "
            f"{loaded} ({weights.name}); give the right ones with --weights"
            + (f": an earlier embedded model, in {earlier} of the project's repository" if earlier else "")
        )


class Decoder(abc.ABC):
    """Decompresses pictures with one model, `weights`: it has a config, tables, an identity and a name.

    `coder` and `tile` are those of `Codec`, and raise the same errors.
    """

    def __init__(self, weights: Any, network: DecodingNetwork, coder: str, tile: int | None):
        coders.check_coder(coder)
        whole = isinstance(tile, Integral) and tile % PAD_MULTIPLE == 0
        if tile and not (whole and MIN_TILE <= tile <= MAX_TILE):
            raise ConfigError(f"tiles are multiples of {PAD_MULTIPLE} from {MIN_TILE} to {MAX_TILE}, or 0, not {tile}")
        self.weights, self.network, self.coder, self.tile = weights, network, coder, tile
        self.slice_decoder = SliceDecoder(weights, network, coder)
        self.model_id = self.slice_decoder.model_id

    def decompress(self, data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Bytes of a `.tcm` file to the picture, uint8 of the shape that was compressed (without a lone channel axis).

        Raises StreamError for anything that is no intact file or has too many pixels, ModelMismatchError for a file of
        other weights, and ArithmeticMismatchError if this device's arithmetic is too far from the encoder's.
        """
        return self.decode(data, max_pixels).array

    def decode(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
        """Decompresses as `decompress` does, to a `Picture`, which has the metadata, too."""
        file = parse(data, max_pixels)
        decoder = self._decoder_of(file)
        if file.has_latents:
            decoder._check_model(file)
        alpha = unpack_plane(file.alpha, file.height, file.width) if file.alpha else None
        icc = unpack_metadata(file.icc, "ICC profile") if file.icc else b""
        exif = unpack_metadata(file.exif, "EXIF") if file.exif else b""
        return Picture(decoder._colour(file), alpha, icc, exif)

    def _decoder_of(self, file: Container) -> "Decoder":
        """The decoder of a file's model, if there is a better one than this."""
        return self

    def _check_model(self, file: Container) -> None:
        check_identity(file.model_id, self.weights)
        if (file.quality is None) != (self.weights.config.levels == 0):
            raise StreamError("the file is altered: only files of variable-rate models have a quality")
        config = self.weights.config
        slices = config.num_slices * config.steps + self.slice_decoder.detail_count(file.quality)
        if file.slices != slices:
            raise StreamError(f"the file is altered: it has {file.slices} slices, its model {slices}")

    def _colour(self, file: Container) -> np.ndarray:
        """The colours that a file's latents and layer decode to, uint8 [H, W, 3] or [H, W]. Raises StreamError."""
        decoder = self.slice_decoder
        if not file.layer:
            return decoder.synthesize(file, decoder.decode(file), self.tile)
        shape = (file.height, file.width) + (() if file.grey else (3,))
        x_hat = decoder.synthesize(file, decoder.decode(file), file.tile) if file.has_latents else None
        try:
            return decode_layer(file.layer, x_hat, shape)
        except ChecksumError as error:
            problem = str(error)
        if x_hat is None:
            raise StreamError(problem)
        del x_hat
        return self._colour_elsewhere(file, problem)

    @abc.abstractmethod
    def _colour_elsewhere(self, file: Container, problem: str) -> np.ndarray:
        """Decodes the colours of a file whose layer over latents this network did not decode. Raises StreamError."""
