"""The codec: pictures to `.tcm` bytes and back (docs/format.md).

Encoder and decoder run the same compiled functions (tiled_network.py) slice by slice, so on one machine they see the
same numbers to the last bit. Across machines what the file says of scales near a boundary absorbs differences of up to
the guard band.
"""

import dataclasses
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcm_jax.codec.container import MAX_GUARD_BAND, Container, pack
from tcm_jax.codec.decoder import Decoder
from tcm_jax.codec.effort import Effort
from tcm_jax.codec.guard_band import GUARD_BAND
from tcm_jax.codec.picture_encoder import PictureEncoder
from tcm_jax.codec.residual import plan
from tcm_jax.codec.scalars import plain
from tcm_jax.codec.slice_encoder import SliceEncoder
from tcm_jax.codec.symbols import Measured
from tcm_jax.codec.tiled_network import TiledNetwork
from tcm_jax.errors import ArithmeticMismatchError, ConfigError, ImageError, StreamError
from tcm_jax.images.limits import MAX_PIXELS
from tcm_jax.images.picture import Picture
from tcm_jax.model.config import PAD_MULTIPLE, padded_size
from tcm_jax.ops import kernels
from tcm_jax.system.devices import with_pinned
from tcm_jax.weights.embedded import embedded_by_id
from tcm_jax.weights.files import load_weights
from tcm_jax.weights.weights import Weights

if TYPE_CHECKING:
    import jax

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
    `tile_sizes.py` chooses it); `device` where the network runs. Raises ConfigError for a coder, a guard band or a tile
    that is none.
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
        device: "jax.Device | None" = None,
    ):
        if not 0 <= guard_band <= MAX_GUARD_BAND:
            raise ConfigError(f"the guard band must lie between 0 and {MAX_GUARD_BAND}, not {guard_band}")
        super().__init__(weights, TiledNetwork(weights, device), coder, tile)
        self.guard_band, self._device = guard_band, device
        self.slice_encoder = SliceEncoder(weights, self.network, coder)
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
        not have, WeightsError for weights that are not trained.
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
            colour = self.slice_encoder.synthesize(container, measured.coded, self.tile)
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
        """The decoder with the embedded weights that wrote the file, else this one."""
        path = embedded_by_id(file.model_id) if file.has_latents and file.model_id != self.model_id else None
        if path is None:
            return self
        if path not in self._others:
            self._others[path] = Codec(load_weights(path), self.coder, self.guard_band, self.tile, self._device)
        return self._others[path]

    def _colour_elsewhere(self, file: Container, problem: str) -> np.ndarray:
        """Decodes the file's colours on the CPU with kernels, where this network runs elsewhere. Raises StreamError."""
        if self.network.is_reference:
            raise StreamError(problem)
        import jax

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

    def hundredths(self, quality: float | None) -> int | None:
        """The quality in hundredths, as a file holds it; None for weights of one rate. Raises ConfigError."""
        if quality is None and self.weights.config.levels == 0:
            return None
        quality = DEFAULT_QUALITY if quality is None else quality
        number: float = plain(quality)
        if not isinstance(number, Real) or isinstance(number, bool) or not 1 <= number <= 100:
            raise ConfigError(f"the quality must be a number from 1 to 100, not {quality!r}")
        if self.weights.config.levels == 0:
            raise ConfigError(f"the weights {self.weights.name} have one rate; leave the quality out")
        return round(100 * float(number))

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
        encoder = PictureEncoder(self.slice_encoder, self.guard_band, self.tile, picture, effort, measured)
        if max_error is None:
            return encoder.encode_at_quality(self.hundredths(quality))
        if quality is not None:
            raise ConfigError("give one of quality and max_error, not both")
        return encoder.encode_with_step(plan.step_of_error(max_error))


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
