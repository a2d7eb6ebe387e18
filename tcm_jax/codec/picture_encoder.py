"""What a file of one picture has: latents, a residual layer, or both, with or without an effort (docs/residual.md)."""

import dataclasses
from typing import Any

import numpy as np

from tcm_jax.codec.alpha_and_metadata import pack_sections
from tcm_jax.codec.container import MAX_QUALITY, Container
from tcm_jax.codec.effort import NO_EFFORT, Effort, lambda_of
from tcm_jax.codec.residual import plan
from tcm_jax.codec.residual.layer import encode_layer
from tcm_jax.codec.slice_encoder import SliceEncoder
from tcm_jax.codec.slices import gain_level, highest_without_details
from tcm_jax.codec.symbols import Measured
from tcm_jax.codec.tile_sizes import entropy_side
from tcm_jax.images.picture import Picture
from tcm_jax.model.config import padded_size
from tcm_jax.weights.weights import Weights

LAYERED_TILE = 1024  # pixels a side; below a layer g_s has the file's tiles, too


class PictureEncoder:
    """Encodes one picture with the weights of a `SliceEncoder`; `measured` gets what it asks for.

    `guard_band` and `tile` are those of `Codec`. Qualities are in hundredths, None for weights of one
    rate. Results are (what the file says, its decoded colours if they are known).
    """

    def __init__(
        self,
        slice_encoder: SliceEncoder,
        guard_band: float,
        tile: int | None,
        picture: Picture,
        effort: Effort,
        measured: Measured,
    ):
        self._slice_encoder, self._weights, self._network = slice_encoder, slice_encoder.weights, slice_encoder.network
        self._guard_band, self._tile = guard_band, tile
        self._picture, self._effort, self._measured = picture, effort, measured
        self._size = padded_size(*picture.colour.shape[:2])

    def encode_at_quality(self, hundredths: int | None) -> tuple[Container, np.ndarray | None]:
        """A file of that quality: latents, and a layer where that pays or the quality is above `plan.LAYER_FROM`."""
        if hundredths is not None and hundredths > plan.LAYER_FROM:
            lam = lambda_at_quality(self._weights, plan.LAYER_FROM)
            return self.encode_with_step(plan.step_of_quality(hundredths, lam))
        colour, lam = self._picture.colour, 0.0 if hundredths is None else self._lambda_of_layer(hundredths)
        if not plan.is_tried(colour, lam):
            return self._encode_latents(colour, hundredths, self._effort, self._measured, self._tile), None
        encode = self._latents_encoder(hundredths, NO_EFFORT)
        latents = encode(colour)
        choice = plan.choose_layer(colour, latents, lam, encode if self._network.is_reference else None)
        if choice is not None:
            return self._file_with_layer(self._searched(choice, hundredths))
        if self._effort.level:  # the search is for what was chosen without one
            return self._encode_latents(colour, hundredths, self._effort, self._measured, self._tile), None
        self._measured.copy_from(latents.measured)
        other_tiles = latents.container.tile and self._tile is None  # without a layer g_s chooses its own
        return latents.container, None if other_tiles else latents.x_hat

    def encode_with_step(self, step: int) -> tuple[Container, np.ndarray]:
        """A file with a layer of that step, beside latents where they pay."""
        colour = self._picture.colour
        alone = plan.Choice(encode_layer(colour, None, step), None, step)
        if step < plan.LATENTS_FROM or not self._network.is_reference:
            return self._file_with_layer(alone)
        hundredths = highest_without_details(self._weights.config) if self._weights.config.levels else None
        encode = self._latents_encoder(hundredths, NO_EFFORT)
        latents = encode(colour)
        spared = plan.spared_latents(colour, latents, self._lambda_of_layer(hundredths or MAX_QUALITY), encode)
        found = [plan.Choice(encode_layer(colour, x.x_hat, step), x, step) for x in (latents, spared) if x]
        choice = self._searched(min(found, key=lambda choice: choice.bytes), hundredths)
        return self._file_with_layer(min((alone, choice), key=lambda choice: choice.bytes))

    def _lambda_of_layer(self, hundredths: int) -> float:
        """Lambda for the layer's squared error: for weights for the eye a share, since theirs is of a mixture."""
        share = plan.SHARE_FOR_EYE if self._weights.metadata.get("distortion") == "visual" else 1.0
        return share * lambda_at_quality(self._weights, hundredths)

    def _searched(self, choice: plan.Choice, hundredths: int | None) -> plan.Choice:
        """The same layer and latents, after a search for the latter if there is an effort."""
        if not self._effort.level:
            return choice
        return plan.searched(self._picture.colour, choice, self._latents_encoder(hundredths, self._effort))

    def _file_with_layer(self, choice: plan.Choice) -> tuple[Container, np.ndarray]:
        """A file with a layer, over latents if it has any; without them any weights decode it."""
        layer = choice.layer.data
        if choice.latents is None:
            none = {"guard_band": 0.0, "checksums": (), "stream": b"", "quality": None, "tile": 0, "sides": None}
            return self._file(bytes(8), layer=layer, **none), choice.layer.decoded
        self._measured.copy_from(choice.latents.measured)
        return dataclasses.replace(choice.latents.container, layer=layer), choice.layer.decoded

    def _latents_encoder(self, hundredths: int | None, effort: Effort) -> plan.LatentsEncoder:
        """A function that codes other colours of the picture as latents that may get a layer."""
        tile = self._tile
        if tile is None and not self._network.in_one_piece(self._size):
            tile = LAYERED_TILE

        def encode(colour: np.ndarray) -> plan.Latents:
            found = Measured(bits=self._measured.bits, kept=True)
            container = self._encode_latents(colour, hundredths, effort, found, tile)
            x_hat = self._slice_encoder.synthesize(container, found.coded, container.tile)
            return plan.Latents(colour, container, x_hat, found)

        return encode

    def _encode_latents(
        self, colour: np.ndarray, hundredths: int | None, effort: Effort, measured: Measured, tile: int | None
    ) -> Container:
        """A file of latents alone, of those colours; `tile` is the side of the entropy model's tiles (None: chosen)."""
        if tile is None:
            tile = entropy_side(self._size, self._weights.config)
        elif max(self._size) <= tile:
            tile = 0
        improve = self._slice_encoder.improvement(colour, hundredths, effort)
        band, three = self._guard_band, _three_channels(colour)
        writer, sides = self._slice_encoder.encode(three, hundredths, band, tile, self._tile, measured, improve)
        model_id, checksums, stream = self._slice_encoder.model_id, tuple(writer.checksums), writer.encoder.finish()
        return self._file(
            model_id, guard_band=band, checksums=checksums, stream=stream, quality=hundredths, tile=tile, sides=sides
        )

    def _file(self, model_id: bytes, **content: Any) -> Container:
        """A file of this picture's size, alpha and metadata."""
        (height, width), grey = self._picture.colour.shape[:2], self._picture.colour.ndim == 2
        return Container(
            width=width, height=height, model_id=model_id, grey=grey, **content, **pack_sections(self._picture)
        )


def lambda_at_quality(weights: Weights, hundredths: int) -> float:
    """Bits a pixel for a squared level of 8 bits at a quality, which weights of one rate do not have.

    As the weights say, or a usual one.
    """
    if "lambda" not in weights.metadata:
        return plan.usual_lambda(hundredths)
    levels = weights.config.levels
    return lambda_of(weights, gain_level(hundredths, levels) if levels else None)


def _three_channels(colour: np.ndarray) -> np.ndarray:
    """RGB as it is; grey three times, without a copy."""
    return colour if colour.ndim == 3 else np.broadcast_to(colour[..., None], (*colour.shape, 3))
