"""The codec: pictures to `.tcm` bytes and back (docs/format.md).

Encoder and decoder run the same compiled functions (tiled_network.py) slice by slice (slices.py), so on one machine
they see the same numbers to the last bit. Across machines what the file says of scales near a boundary absorbs
differences of up to the guard band.
"""

import dataclasses
from numbers import Real
from pathlib import Path

import jax
import numpy as np

from tcm_jax.codec.alpha_and_metadata import pack_sections
from tcm_jax.codec.container import MAX_GUARD_BAND, Container, pack
from tcm_jax.codec.decoder import Decoder
from tcm_jax.codec.effort import NO_EFFORT, Effort, lambda_of
from tcm_jax.codec.guard_band import GUARD_BAND
from tcm_jax.codec.residual import plan
from tcm_jax.codec.residual.layer import encode_layer
from tcm_jax.codec.slices import gain_level, highest_plain
from tcm_jax.codec.symbols import Measured
from tcm_jax.codec.tile_sizes import entropy_side
from tcm_jax.codec.tiled_network import TiledNetwork
from tcm_jax.codec.tiles import ENTROPY_HALO
from tcm_jax.errors import ArithmeticMismatchError, ConfigError, ImageError, StreamError
from tcm_jax.images.limits import MAX_PIXELS
from tcm_jax.images.pictures import Picture
from tcm_jax.model.config import PAD_MULTIPLE, padded_size
from tcm_jax.ops import kernels
from tcm_jax.system.devices import with_pinned
from tcm_jax.weights.embedded import embedded_by_id
from tcm_jax.weights.files import load_weights
from tcm_jax.weights.weights import Weights

LAYERED_TILE = 1024  # pixels a side; below a layer g_s has the file's tiles, too
DEFAULT_QUALITY = 55.0  # of a variable-rate model, 1 to 100


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A compressed picture and what is known about it."""

    data: bytes  # the whole .tcm file
    reconstruction: np.ndarray  # uint8, what a decoder gives
    estimated_bits: float  # under the float distributions (the rate of the training loss)
    table_bits: float  # information content under the integer tables and the coded indexes
    stream_bytes: int  # range-coded latents
    layer_bytes: int  # the residual layer
    sides_bytes: int  # what portability costs: the file is this much shorter with guard_band = 0


class Codec(Decoder):
    """Compresses pictures with one set of weights.

    `coder` is the range coder (`auto`, `native`, `tfc`); `guard_band` how far, relatively, a decoder's scales
    may be off (0: only the same machine and software decode the file); `tile` the side in pixels of the pieces that
    larger pictures are worked on in (0: every picture in one piece; None: what costs least in bounded memory, as
    `tile_sizes.py` chooses it); `device` where the network runs.
    """

    network: TiledNetwork
    weights: Weights

    @with_pinned
    def __init__(
        self,
        weights: Weights,
        coder: str = "auto",
        guard_band: float = GUARD_BAND,
        tile: int | None = None,
        device: jax.Device | None = None,
    ):
        if not 0 <= guard_band <= MAX_GUARD_BAND:
            raise ConfigError(f"the guard band must lie between 0 and {MAX_GUARD_BAND}, not {guard_band}")
        super().__init__(weights, TiledNetwork(weights, device), coder, tile)
        self.guard_band, self._device = guard_band, device
        self._others: dict[Path, Codec] = {}  # of other embedded weights, once a file asks for them

    @with_pinned
    def compress(
        self,
        image: np.ndarray | Picture,
        quality: float | None = None,
        max_pixels: int = MAX_PIXELS,
        max_error: int | None = None,
        effort: int | Effort = 0,
    ) -> bytes:
        """A picture of any size from 1x1 to the bytes of a `.tcm` file.

        `image` is uint8 [H, W] grey, [H, W, 2] grey and alpha, [H, W, 3] RGB or [H, W, 4] RGB and alpha, or a
        `Picture`, which has metadata too. `quality`, 1 to 100 in steps of 0.01 (55 if None), is for variable-rate
        weights; 100 is exact. `max_error` is what no sample is off by more than, in levels: 0 is exact, with any
        weights. `effort`, 0 to 9 or an `Effort`, searches for latents that code the picture better. Raises TypeError
        for what is no array, ImageError for other arrays and too many pixels, ConfigError for a quality, an error or an
        effort that is out of range, for a quality and an error, and for a quality or an effort that these weights do
        not have.
        """
        return pack(self._encode(Picture.of(image), quality, max_pixels, max_error, Effort.of(effort), Measured())[0])

    @with_pinned
    def encode(
        self,
        image: np.ndarray | Picture,
        quality: float | None = None,
        max_pixels: int = MAX_PIXELS,
        max_error: int | None = None,
        effort: int | Effort = 0,
    ) -> Encoded:
        """Compresses as `compress` does; returns the decoder's picture, too, and where the bytes go. Decodes for it."""
        picture, measured = Picture.of(image), Measured(bits=True, kept=True)
        container, colour = self._encode(picture, quality, max_pixels, max_error, Effort.of(effort), measured)
        data = pack(container)
        if colour is None:
            colour = self._synthesize(container, measured.coded, self.tile)
        return Encoded(
            data=data,
            reconstruction=dataclasses.replace(picture, colour=colour).array,
            estimated_bits=measured.estimated_bits,
            table_bits=measured.table_bits,
            stream_bytes=len(container.stream),
            layer_bytes=len(container.layer),
            sides_bytes=len(data) - len(pack(dataclasses.replace(container, sides=None))),
        )

    @with_pinned
    def decode(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
        """Decompresses as `decompress` does, to a `Picture`, which has the metadata, too."""
        return super().decode(data, max_pixels)

    def _decoder_of(self, file: Container) -> Decoder:
        """Of the embedded weights that wrote the file, if these did not."""
        path = embedded_by_id(file.model_id) if file.has_latents and file.model_id != self.model_id else None
        if path is None:
            return self
        if path not in self._others:
            self._others[path] = Codec(load_weights(path), self.coder, self.guard_band, self.tile, self._device)
        return self._others[path]

    def _colour_elsewhere(self, file: Container, problem: str) -> np.ndarray:
        """Decodes the file's colours on the CPU with kernels, where this network runs elsewhere. Raises StreamError."""
        if self._is_reference:
            raise StreamError(problem)
        try:
            devices = jax.local_devices(backend="cpu") if kernels.available() else []
        except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
            devices = []
        if not devices:
            raise ArithmeticMismatchError(
                "this picture has a residual layer, which needs the encoder's arithmetic, a CPU with this package's "
                "kernels; there is none here"
            )
        return Codec(self.weights, self.coder, self.guard_band, self.tile, devices[0])._colour(file)

    @property
    def _is_reference(self) -> bool:
        """Whether this device computes x_hat as all that write a layer do: a CPU with kernels."""
        return self.network.params.device.platform == "cpu" and kernels.available()

    def _quality(self, quality: float | None) -> int | None:
        """The quality in hundredths, as a file holds it; None for weights of one rate. Raises ConfigError."""
        if quality is None and self.weights.config.levels == 0:
            return None
        quality = DEFAULT_QUALITY if quality is None else quality
        if not isinstance(quality, Real) or isinstance(quality, bool) or not 1 <= quality <= 100:
            raise ConfigError(f"the quality must be a number from 1 to 100, not {quality!r}")
        if self.weights.config.levels == 0:
            raise ConfigError(f"the weights {self.weights.name} have one rate; leave the quality out")
        return round(100 * float(quality))

    def _lambda(self, hundredths: int) -> float:
        """That of the weights at a quality, if they say it: bits a pixel for a squared level of 8 bits."""
        if not self.weights.config.levels or "lambda" not in self.weights.metadata:
            return plan.usual_worth(hundredths)
        return lambda_of(self.weights, gain_level(hundredths, self.weights.config.levels))

    def _worth(self, hundredths: int) -> float:
        """Bits a pixel for a squared level where other errors do not count: weights for the eye have a mixture."""
        share = plan.SHARE_FOR_EYE if self.weights.metadata.get("distortion") == "visual" else 1.0
        return share * self._lambda(hundredths)

    def _encode(
        self,
        picture: Picture,
        quality: float | None,
        max_pixels: int,
        max_error: int | None,
        effort: Effort,
        measured: Measured,
    ) -> tuple[Container, np.ndarray | None]:
        """(what the file says, the decoded colours if they are known)."""
        _check_size(picture, max_pixels)
        if max_error is not None:
            if quality is not None:
                raise ConfigError("give one of quality and max_error, not both")
            return self._layered(picture, plan.step_of_error(max_error), effort, measured)
        hundredths = self._quality(quality)
        if hundredths is not None and hundredths > plan.LAYER_FROM:
            step = plan.step_of_quality(hundredths, self._lambda(plan.LAYER_FROM))
            return self._layered(picture, step, effort, measured)
        worth = 0.0 if hundredths is None else self._worth(hundredths)
        if not plan.is_tried(picture.colour, worth):
            return self._latents(picture, hundredths, effort, measured, self.tile), None
        code = self._coder_of(picture, hundredths, NO_EFFORT, measured)
        latents = code(picture.colour)
        choice = plan.choose_layer(picture.colour, latents, worth, code if self._is_reference else None)
        if choice is None and effort.level:  # the search is for what was chosen without one
            return self._latents(picture, hundredths, effort, measured, self.tile), None
        if choice is None:
            measured.copy_from(latents.measured)
            other_tiles = latents.container.tile and self.tile is None  # without a layer g_s chooses its own
            return latents.container, None if other_tiles else latents.hat
        if effort.level:
            choice = plan.searched(picture.colour, choice, self._coder_of(picture, hundredths, effort, measured))
        return self._file_of(picture, choice, measured)

    def _layered(self, picture: Picture, step: int, effort: Effort, measured: Measured) -> tuple[Container, np.ndarray]:
        """(a file with a layer of that step, beside latents where they pay; the decoded colours)."""
        alone = plan.Choice(encode_layer(picture.colour, None, step), None, step)
        if step < plan.LATENTS_FROM or not self._is_reference:
            return self._file_of(picture, alone, measured)
        hundredths = highest_plain(self.weights.config) if self.weights.config.levels else None
        code = self._coder_of(picture, hundredths, NO_EFFORT, measured)
        latents = code(picture.colour)
        spared = plan.spared_latents(picture.colour, latents, self._worth(hundredths or 10_000), code)
        found = [plan.Choice(encode_layer(picture.colour, x.hat, step), x, step) for x in (latents, spared) if x]
        choice = min(found, key=lambda choice: choice.bytes)
        if effort.level:
            choice = plan.searched(picture.colour, choice, self._coder_of(picture, hundredths, effort, measured))
        return self._file_of(picture, min((alone, choice), key=lambda choice: choice.bytes), measured)

    def _file_of(self, picture: Picture, choice: plan.Choice, measured: Measured) -> tuple[Container, np.ndarray]:
        """(a file with a layer, over latents if it has any; the decoded colours)."""
        if choice.latents is None:
            return self._alone(picture, choice.layer.data), choice.layer.decoded
        measured.copy_from(choice.latents.measured)
        return dataclasses.replace(choice.latents.container, layer=choice.layer.data), choice.layer.decoded

    def _coder_of(self, picture: Picture, hundredths: int | None, effort: Effort, measured: Measured) -> plan.Code:
        """A function that codes other colours of the picture as latents that may get a layer."""

        def code(colour: np.ndarray) -> plan.Latents:
            found = Measured(bits=measured.bits, kept=True)
            tile = self._layered_tile(picture)
            container = self._latents(dataclasses.replace(picture, colour=colour), hundredths, effort, found, tile)
            return plan.Latents(colour, container, self._synthesize(container, found.coded, container.tile), found)

        return code

    def _alone(self, picture: Picture, layer: bytes) -> Container:
        """A file without latents; any weights decode it."""
        height, width = picture.colour.shape[:2]
        return Container(
            width=width,
            height=height,
            model_id=bytes(8),
            guard_band=0.0,
            checksums=(),
            stream=b"",
            quality=None,
            tile=0,
            grey=picture.colour.ndim == 2,
            sides=None,
            layer=layer,
            **pack_sections(picture),
        )

    def _layered_tile(self, picture: Picture) -> int | None:
        """Side of tiles of a file that may get a layer: below that g_s has the entropy model's tiles, too."""
        size = padded_size(*picture.colour.shape[:2])
        return LAYERED_TILE if self.tile is None and not self.network.in_one_piece(size) else self.tile

    def _latents(
        self, picture: Picture, hundredths: int | None, effort: Effort, measured: Measured, side: int | None
    ) -> Container:
        """A file of latents alone, with tiles of that side (None: chosen)."""
        height, width = picture.colour.shape[:2]
        size = padded_size(height, width)
        if side is None:
            tile = entropy_side(size, self.weights.config, ENTROPY_HALO)
        else:
            tile = side if max(size) > side else 0
        colour = _three_channels(picture.colour)
        improve = self._slices.improvement(picture.colour, hundredths, effort)
        writer, sides = self._slices.encode(colour, hundredths, self.guard_band, tile, self.tile, measured, improve)
        return Container(
            width=width,
            height=height,
            model_id=self.model_id,
            guard_band=self.guard_band,
            checksums=tuple(writer.checksums),
            stream=writer.encoder.finish(),
            quality=hundredths,
            tile=tile,
            grey=picture.colour.ndim == 2,
            sides=sides,
            **pack_sections(picture),
        )


def _check_size(picture: Picture, max_pixels: int) -> None:
    height, width = picture.colour.shape[:2]
    if 0 in (height, width):
        raise ImageError("the picture has no pixels")
    padded = padded_size(height, width)
    if padded[0] * padded[1] > max_pixels:
        raise ImageError(
            f"the picture has {width}x{height} pixels; padded to multiples of {PAD_MULTIPLE}, that is over the limit "
            f"of {max_pixels:,}"
        )


def _three_channels(colour: np.ndarray) -> np.ndarray:
    """RGB as it is; grey three times, without a copy."""
    return colour if colour.ndim == 3 else np.broadcast_to(colour[..., None], (*colour.shape, 3))
