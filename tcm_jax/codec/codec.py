"""The codec: pictures to `.tcm` bytes and back (docs/format.md).

Encoder and decoder run the same compiled functions of `network.Network`, so on one machine they see the same numbers to
the last bit. Across machines what the file says of scales near a boundary absorbs differences of up to the guard band.
"""

import dataclasses
from collections.abc import Callable
from numbers import Real

import jax
import numpy as np

from tcm_jax.codec.boundaries import SideWriter, possible_indexes
from tcm_jax.codec.container import MAX_GUARD_BAND, MAX_TILE, MIN_TILE, Container, pack, parse
from tcm_jax.codec.details import Latents, code_details, decode_details, steps
from tcm_jax.codec.lossless import pack_metadata, pack_plane, unpack_metadata, unpack_plane
from tcm_jax.codec.residual import plan
from tcm_jax.codec.residual.layer import ChecksumError, decode_layer, encode_layer
from tcm_jax.codec.streams import StreamReader, StreamWriter
from tcm_jax.codec.tiled_network import PAD, TiledNetwork, padded_size
from tcm_jax.codec.tiles import Grid
from tcm_jax.entropy import range_coder
from tcm_jax.entropy.tables import scale_table
from tcm_jax.errors import (
    ArithmeticMismatchError,
    ConfigError,
    ImageError,
    ModelMismatchError,
    StreamError,
    WeightsError,
)
from tcm_jax.images.pictures import MAX_PIXELS, Picture
from tcm_jax.model.config import HYPER_STRIDE
from tcm_jax.ops import kernels
from tcm_jax.system.devices import with_pinned
from tcm_jax.weights.embedded import EARLIER_EMBEDDED
from tcm_jax.weights.weights import Weights

GUARD_BAND = 4e-5  # relative; docs/portability.md has the noise it must cover
TILE = 1024  # pixels a side
MAX_SYMBOL = 2**20
DEFAULT_QUALITY = 50.0  # of a variable-rate model, 1 to 100


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A compressed picture and what is known about it."""

    data: bytes  # the whole .tcm file
    reconstruction: np.ndarray  # uint8, what a decoder gives
    estimated_bits: float  # under the float distributions (the rate of the training loss)
    table_bits: float  # information content under the integer tables and the coded indexes
    stream_bytes: int  # range-coded latents
    layer_bytes: int  # the residual layer
    correction_bytes: int  # what portability costs: the file is this much shorter with guard_band = 0


class Codec:
    """Compresses pictures with one set of weights.

    `coder` is the range coder's engine (`auto`, `native`, `tfc`); `guard_band` how far, relatively, a decoder's scales
    may be off (0: only the same machine and software decode the file); `tile` the side in pixels of the pieces that
    larger pictures are worked on in (0: every picture in one piece); `device` where the network runs.
    """

    @with_pinned
    def __init__(
        self,
        weights: Weights,
        coder: str = "auto",
        guard_band: float = GUARD_BAND,
        tile: int = TILE,
        device: jax.Device | None = None,
    ):
        self.weights, self.coder, self.guard_band, self.tile = weights, coder, guard_band, tile
        self.model_id = bytes.fromhex(weights.identity)[:8]
        range_coder.check_engine(coder)
        if not 0 <= guard_band <= MAX_GUARD_BAND:
            raise ConfigError(f"the guard band must lie between 0 and {MAX_GUARD_BAND}, not {guard_band}")
        if tile and not (MIN_TILE <= tile <= MAX_TILE and tile % PAD == 0):
            raise ConfigError(f"tiles are multiples of {PAD} from {MIN_TILE} to {MAX_TILE}, or 0, not {tile}")
        self.network = TiledNetwork(weights, device)

    @with_pinned
    def compress(
        self,
        image: np.ndarray | Picture,
        quality: float | None = None,
        max_pixels: int = MAX_PIXELS,
        max_error: int | None = None,
    ) -> bytes:
        """A picture of any size from 1x1 to the bytes of a `.tcm` file.

        `image` is uint8 [H, W] grey, [H, W, 2] grey and alpha, [H, W, 3] RGB or [H, W, 4] RGB and alpha, or a
        `Picture`, which has metadata too. `quality`, 1 to 100 in steps of 0.01 (50 if None), is for variable-rate
        weights; 100 is exact. `max_error` is what no sample is off by more than, in levels: 0 is exact, with any
        weights. Raises ImageError for other arrays and too many pixels, ConfigError for a quality or an error that is
        out of range, for both, and for a quality that these weights do not have.
        """
        return pack(self._encode(Picture.of(image), quality, max_pixels, max_error, _Measured())[0])

    @with_pinned
    def encode(
        self,
        image: np.ndarray | Picture,
        quality: float | None = None,
        max_pixels: int = MAX_PIXELS,
        max_error: int | None = None,
    ) -> Encoded:
        """As `compress`, with the decoder's picture and where the bytes go; takes about a decoding longer."""
        picture, measured = Picture.of(image), _Measured(bits=True, kept=True)
        container, colour = self._encode(picture, quality, max_pixels, max_error, measured)
        data = pack(container)
        if colour is None:
            colour = self._synthesize(container, measured.latents, self.tile)
        return Encoded(
            data=data,
            reconstruction=dataclasses.replace(picture, colour=colour).array,
            estimated_bits=measured.estimated_bits if container.has_latents else 0.0,
            table_bits=measured.table_bits if container.has_latents else 0.0,
            stream_bytes=len(container.stream),
            layer_bytes=len(container.layer),
            correction_bytes=len(data) - len(pack(dataclasses.replace(container, sides=None))),
        )

    def decompress(self, data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Bytes of a `.tcm` file to the picture, uint8 of the shape that was compressed (without a lone channel axis).

        Raises StreamError for anything that is no intact file, ModelMismatchError for a file of other weights, and
        ArithmeticMismatchError if this device's arithmetic is too far from the encoder's.
        """
        return self.decode(data, max_pixels).array

    @with_pinned
    def decode(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
        """As `decompress`, with the metadata."""
        file = parse(data, max_pixels)
        if file.has_latents:
            self._check_model(file)
        alpha = unpack_plane(file.alpha, file.height, file.width) if file.alpha else None
        icc = unpack_metadata(file.icc, "ICC profile") if file.icc else b""
        exif = unpack_metadata(file.exif, "EXIF") if file.exif else b""
        return Picture(self._colour(file), alpha, icc, exif)

    def _check_model(self, file: Container) -> None:
        slices = self.weights.config.num_slices
        if file.model_id != self.model_id:
            earlier = EARLIER_EMBEDDED.get(file.model_id.hex())
            raise ModelMismatchError(
                f"this file was written with model {file.model_id.hex()}, but the weights loaded are "
                f"{self.model_id.hex()} ({self.weights.name}); give the right ones with --weights"
                + (f": an earlier embedded model, in {earlier} of the project's repository" if earlier else "")
            )
        if (file.quality is None) != (self.weights.config.levels == 0):
            raise StreamError("the file is altered: only files of variable-rate models have a quality")
        slices = slices * self.weights.config.steps + self._details(file.quality)
        if len(file.corrections) != slices:
            raise StreamError(f"the file is altered: it has {len(file.corrections)} slices, its model {slices}")

    def _colour(self, file: Container) -> np.ndarray:
        """What latents and layer decode to."""
        if not file.layer:
            return self._synthesize(file, self._decode(file), self.tile)
        shape = (file.height, file.width) + (() if file.grey else (3,))
        x_hat = self._synthesize(file, self._decode(file), file.tile) if file.has_latents else None
        try:
            return decode_layer(file.layer, x_hat, shape)
        except ChecksumError as error:
            if x_hat is None or self._is_reference:
                raise StreamError(str(error)) from error
        del x_hat
        if not kernels.available():
            raise ArithmeticMismatchError(
                "this picture has a residual layer, which needs the encoder's arithmetic, a CPU with this package's "
                "kernels; there is none here"
            )
        cpu = Codec(self.weights, self.coder, self.guard_band, self.tile, jax.local_devices(backend="cpu")[0])
        return cpu._colour(file)

    @property
    def _is_reference(self) -> bool:
        """Whether this device computes x_hat as all that write a layer do: a CPU with kernels."""
        return self.network.params.device.platform == "cpu" and kernels.available()

    def _quality(self, quality: float | None) -> int | None:
        """Hundredths, as a file holds them."""
        if not self.weights.config.levels:
            if quality is not None:
                raise ConfigError(f"the weights {self.weights.name} have one rate; leave the quality out")
            return None
        quality = DEFAULT_QUALITY if quality is None else quality
        if not isinstance(quality, Real) or not 1 <= quality <= 100:
            raise ConfigError(f"the quality must be a number from 1 to 100, not {quality!r}")
        return round(100 * quality)

    def _level(self, quality: int | None) -> np.ndarray | None:
        """Gain level of a quality in hundredths, float32 [1]."""
        if quality is None:
            return None
        return np.array([_position(quality, self.weights.config.levels)], np.float32)

    def _details(self, quality: int | None) -> int:
        """How many detail slices a picture of a quality in hundredths has."""
        config = self.weights.config
        return 0 if quality is None else config.detail_slices(_position(quality, config.levels))

    def _encode(
        self, picture: Picture, quality: float | None, max_pixels: int, max_error: int | None, measured: "_Measured"
    ) -> tuple[Container, np.ndarray | None]:
        """(what the file says, the decoded colours if they are known)."""
        _check_size(picture, max_pixels)
        if max_error is not None:
            if quality is not None:
                raise ConfigError("give either a quality or the largest error")
            return self._layered(picture, plan.step_of_error(max_error), measured)
        hundredths = self._quality(quality)
        if hundredths is not None and hundredths > plan.LAYER_FROM:
            return self._layered(picture, plan.step_of_quality(hundredths), measured)
        if hundredths is None or hundredths <= plan.HELPED_FROM:
            return self._latents(picture, hundredths, measured), None
        measured.kept = True
        container = self._latents(picture, hundredths, measured)
        hat = self._synthesize(container, measured.latents, self.tile)
        layer = plan.in_place_of_latents(picture.colour, hat, hundredths, len(container.stream))
        return (container, hat) if layer is None else (self._alone(picture, layer.data), layer.decoded)

    def _layered(self, picture: Picture, step: int, measured: "_Measured") -> tuple[Container, np.ndarray]:
        """With a layer of that step, beside latents where they pay."""
        layer = encode_layer(picture.colour, None, step)
        alone = self._alone(picture, layer.data), layer.decoded
        if step < plan.LATENTS_FROM or not self._is_reference:
            return alone
        measured.kept = True
        container = self._latents(picture, 10_000 if self.weights.config.levels else None, measured)
        hat = self._synthesize(container, measured.latents, container.tile)
        layer = encode_layer(picture.colour, hat, step)
        if len(container.stream) + len(layer.data) >= len(alone[0].layer):
            return alone
        return dataclasses.replace(container, layer=layer.data), layer.decoded

    def _alone(self, picture: Picture, layer: bytes) -> Container:
        """A file without latents; any weights decode it."""
        height, width = picture.colour.shape[:2]
        return Container(
            width=width,
            height=height,
            model_id=bytes(8),
            guard_band=0.0,
            corrections=(),
            checksums=(),
            stream=b"",
            quality=None,
            tile=0,
            grey=picture.colour.ndim == 2,
            sides=None,
            layer=layer,
            **_extras(picture),
        )

    def _latents(self, picture: Picture, hundredths: int | None, measured: "_Measured") -> Container:
        """A file of latents alone."""
        height, width = picture.colour.shape[:2]
        extras = _extras(picture)
        level = self._level(hundredths)
        colour = _three_channels(picture.colour)
        y, z = self.network.analyze(colour, level, self.tile)
        coder = StreamWriter(self.weights.tables, self.coder)
        sides = self._code(coder, colour, y, _rounded(z), hundredths, measured)
        return Container(
            width=width,
            height=height,
            model_id=self.model_id,
            guard_band=self.guard_band,
            corrections=(np.empty(0, np.int32),) * (len(coder.checksums) - 1),
            checksums=tuple(coder.checksums),
            stream=coder.encoder.finish(),
            quality=hundredths,
            tile=self.tile if max(padded_size(height, width)) > self.tile else 0,
            grey=picture.colour.ndim == 2,
            sides=sides,
            **extras,
        )

    def _code(
        self,
        coder: StreamWriter,
        colour: np.ndarray,
        y: list[np.ndarray],
        z: np.ndarray,
        quality: int | None,
        measured: "_Measured",
    ) -> bytes | None:
        """Codes z, the slices of y, which it takes from the list, and those of detail; returns the file's sides."""
        indexes, tables = _hyper_indexes(z.shape), self.weights.tables
        level, details = self._level(quality), self._details(quality)
        coder.write(indexes, z)
        context = self.network.hyper(z, level, self.tile)
        latents, sides = Latents(), SideWriter(self.guard_band)
        if measured.bits:
            measured.table_bits += range_coder.information_content(tables, indexes, z)
            measured.estimated_bits += self.network.hyper_information(z)
        if measured.kept:
            measured.latents = latents

        def write(symbols: np.ndarray, sigma: np.ndarray) -> None:
            indexes = sides.indexes(sigma)
            coder.write(indexes, symbols)
            if measured.bits:
                measured.table_bits += range_coder.information_content(tables, indexes, symbols)
                measured.estimated_bits += self.network.slice_information(symbols, sigma)

        for i in range(self.weights.config.num_slices):
            self._code_slice(i, y.pop(0), context, latents, write, details > 0, details > 0 or measured.kept)
        if level is not None and details:
            slices = self.network.analyze_details(colour, latents.y_hat, details, level, self.tile)
            code_details(self.network, map(_rounded, slices), latents, level, self.tile, write)
        return sides.pack()

    def _code_slice(
        self,
        i: int,
        y_slice: np.ndarray,
        context: list[Grid],
        latents: Latents,
        write: Callable[[np.ndarray, np.ndarray], None],
        keep: bool,
        last: bool,
    ) -> None:
        """Codes one slice, and appends it to the decoded ones; grids of its own are gone before the next one's.

        Or kept, if detail slices follow (`keep`); the last slice is only decoded where that is needed (`last`).
        """
        goes_on = last or i < self.weights.config.num_slices - 1
        mu, sigma, *support = self.network.slice_params(i, context, latents.y_hat, self.tile, with_support=goes_on)
        if self.weights.config.steps == 2:
            known = _rounded(y_slice - np.asarray(mu))
            mu, sigma = self.network.second_step(i, known, mu, sigma, self.tile)
        y_slice -= np.asarray(mu)
        symbols, sigma = _rounded(y_slice), np.asarray(sigma)
        if goes_on:  # started before the coding, beside which the device computes it
            latents.y_hat.append(self.network.slice_latents(i, symbols, mu, support[0], self.tile))
        del y_slice, mu, support
        for fields in steps(self.weights.config, symbols.shape):
            write(symbols[fields], sigma[fields])
        if keep:
            latents.keep(symbols, sigma)

    def _decode(self, file: Container) -> Latents:
        """What was coded; stops at the first slice whose symbols are not the encoder's."""
        config = self.weights.config
        rows, columns = padded_size(file.height, file.width)
        reader = StreamReader(file, self.weights.tables, self.coder)
        z = reader.read([_hyper_indexes((rows // HYPER_STRIDE, columns // HYPER_STRIDE, config.hyper_channels))])
        if z is None:
            raise StreamError("the file is altered: its hyper-latents do not have the checksum that it states")
        level, details = self._level(file.quality), self._details(file.quality)
        context, latents = self.network.hyper(z, level, file.tile), Latents()

        parts, before = 0, 0

        def read(sigma: np.ndarray) -> np.ndarray:
            nonlocal parts, before
            symbols = reader.read(possible_indexes(file, parts, sigma, before))
            parts, before = parts + 1, before + sigma.size
            if symbols is None:
                raise ArithmeticMismatchError(
                    f"slice {parts} of {len(file.checksums) - 1} does not decode to what was encoded: this device's "
                    f"arithmetic differs by more than the file allows ({file.guard_band:.0e} relative)"
                )
            return symbols

        for i in range(config.num_slices):
            self._decode_slice(i, context, latents, file.tile, read, details > 0)
        if level is not None and details:
            decode_details(self.network, details, latents, level, file.tile, read)
        reader.finish()
        return latents

    def _decode_slice(
        self,
        i: int,
        context: list[Grid],
        latents: Latents,
        tile: int,
        read: Callable[[np.ndarray], np.ndarray],
        keep: bool,
    ) -> None:
        """Decodes the next slice; other grids of its own are gone before the next one's, or kept (`keep`)."""
        mu, sigma, support = self.network.slice_params(i, context, latents.y_hat, tile)
        symbols: np.ndarray = np.zeros(mu.shape, np.int32)
        for step, fields in enumerate(steps(self.weights.config, symbols.shape)):
            if step:
                mu, sigma = self.network.second_step(i, symbols, mu, sigma, tile)
            symbols[fields] = read(np.asarray(sigma)[fields])
        if keep:
            latents.keep(symbols, np.asarray(sigma))
        del sigma
        latents.y_hat.append(self.network.slice_latents(i, symbols, mu, support, tile))

    def _synthesize(self, file: Container, latents: Latents, tile: int) -> np.ndarray:
        """The picture's colour, uint8 [H, W, 3], or [H, W] if it is grey: the mean of the channels."""
        size, level = (file.height, file.width), self._level(file.quality)
        colour = self.network.synthesize(latents.y_hat, latents.details, level, size, tile)
        return ((colour.sum(-1, dtype=np.uint16) + 1) // 3).astype(np.uint8) if file.grey else colour


@dataclasses.dataclass
class _Measured:
    """What is found out beside the coding, where it is wanted: bits, and (`kept`) the decoded latents."""

    bits: bool = False
    kept: bool = False
    estimated_bits: float = 0.0
    table_bits: float = 0.0
    latents: Latents = dataclasses.field(default_factory=Latents)


def _extras(picture: Picture) -> dict[str, bytes]:
    """The sections of what a picture has beside its colours."""
    return {
        "alpha": b"" if picture.alpha is None else pack_plane(picture.alpha),
        "icc": pack_metadata(picture.icc, "ICC profile") if picture.icc else b"",
        "exif": pack_metadata(picture.exif, "EXIF") if picture.exif else b"",
    }


def _check_size(picture: Picture, max_pixels: int) -> None:
    height, width = picture.colour.shape[:2]
    if 0 in (height, width):
        raise ImageError("the picture has no pixels")
    padded = padded_size(height, width)
    if padded[0] * padded[1] > max_pixels:
        raise ImageError(
            f"the picture has {width}x{height} pixels; padded to multiples of {PAD}, that is over the limit of "
            f"{max_pixels:,}"
        )


def _position(quality: int, levels: int) -> float:
    """Gain level of a quality in hundredths: 1 and 100 are the first and the last."""
    return (quality - 100) / 9900 * (levels - 1)


def _three_channels(colour: np.ndarray) -> np.ndarray:
    """RGB as it is; grey three times, without a copy."""
    return colour if colour.ndim == 3 else np.broadcast_to(colour[..., None], (*colour.shape, 3))


def _rounded(residual: np.ndarray) -> np.ndarray:
    """To integers, int32."""
    if not -MAX_SYMBOL <= residual.min(initial=0) <= residual.max(initial=0) <= MAX_SYMBOL:  # nor for NaN
        raise WeightsError("these weights give latents that cannot be coded: they are not trained, or are damaged")
    return np.rint(residual, out=np.empty(residual.shape, np.int32), casting="unsafe")


def _hyper_indexes(shape: tuple[int, ...]) -> np.ndarray:
    """Table of each hyper-latent: 64 + channel, int32 of `shape` [h, w, channels]."""
    channels = np.arange(len(scale_table()), len(scale_table()) + shape[-1], dtype=np.int32)
    return np.broadcast_to(channels, shape)
