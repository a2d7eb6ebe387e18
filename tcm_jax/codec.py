"""The codec: pictures to `.tcm` bytes and back (docs/format.md), with one compiled function for both directions.

Encoder and decoder call the same jitted functions at batch 1, so on one machine they see the same numbers to the last
bit. Across machines the file's corrections absorb differences of up to the guard band in the scales.
"""

import dataclasses
import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.container import MAX_GUARD_BAND, Container, pack, parse, symbol_checksum
from tcm_jax.entropy import factorized, gaussian, range_coder
from tcm_jax.entropy.tables import boundary_positions, coded_indexes, scale_table
from tcm_jax.errors import (
    ArithmeticMismatchError,
    ConfigError,
    ImageError,
    ModelMismatchError,
    StreamError,
    WeightsError,
)
from tcm_jax.image import pad_to_multiple
from tcm_jax.model import HYPER_STRIDE, LATENT_STRIDE, TCM, Weights

PAD = 128  # pictures are padded to multiples of this: the latent grid is then whole in windows
GUARD_BAND = 1e-5  # relative; docs/portability.md has the noise it must cover
MAX_PIXELS = 2**28
MAX_SYMBOL = 2**20
DEFAULT_QUALITY = 50.0  # of a variable-rate model, 1 to 100


def entropy_jit(*static: int):
    """`jax.jit` with matrix products in full float32: for what encoder and decoder must agree on."""

    def decorate(function):
        @functools.wraps(function)
        def precise(*args):
            with jax.default_matmul_precision("highest"):
                return function(*args)

        return jax.jit(precise, static_argnums=static)

    return decorate


def _round(residual):
    """To integers; NaN to the largest, since XLA would make it a harmless 0."""
    return jnp.round(jnp.where(jnp.isnan(residual), jnp.inf, residual)).astype(jnp.int32)


def _apply(model, params, method, *args):
    return model.apply({"params": params}, *args, method=method)


@functools.partial(jax.jit, static_argnums=0)
def _analyze(model, params, picture, level):
    """uint8 [H, W, 3] and gain level to (y float32 [1, h, w, C], symbols of z int32)."""
    y = _apply(model, params, "analysis", picture[None].astype(jnp.float32) / 255, level)
    z = _apply(model, params, "hyper_analysis", y, level)
    return y, _round(z - _apply(model, params, "medians"))


@functools.partial(jax.jit, static_argnums=0)
def _synthesize(model, params, y_hat, level):
    """Decoded slices to the picture, uint8 [H, W, 3]."""
    x_hat = _apply(model, params, "synthesis", jnp.concatenate(y_hat, axis=-1), level)[0]
    return jnp.round(jnp.clip(x_hat, 0, 1) * 255).astype(jnp.uint8)


@entropy_jit(0)
def _hyper(model, params, z_symbols, level):
    """Symbols of z to (latent means, latent scales)."""
    return _apply(model, params, "hyper_synthesis", z_symbols + _apply(model, params, "medians"), level)


@entropy_jit(0, 2)
def _slice_params(model, params, i, latent_means, latent_scales, previous):
    """(mu, sigma, support) of slice i; the one function that training, encoder and decoder share."""
    return _apply(model, params, "slice_params", i, latent_means, latent_scales, previous)


@entropy_jit(0, 2)
def _slice_latents(model, params, i, symbols, mu, support):
    """Decoded slice i from its symbols (int32)."""
    return _apply(model, params, "slice_latents", i, symbols.astype(jnp.float32), mu, support)


@jax.jit
def _quantize(y, mu):
    return _round(y - mu)


@functools.partial(jax.jit, static_argnums=0)
def _information(model, params, z_symbols, residuals, scales):
    """Bits under the float distributions: what the loss counts as rate."""
    z = factorized.likelihood(params["entropy_bottleneck"], z_symbols + _apply(model, params, "medians"))
    y = [gaussian.likelihood(r.astype(jnp.float32), s) for r, s in zip(residuals, scales, strict=True)]
    return -sum(jnp.log2(likelihood).sum() for likelihood in (z, *y))


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tcm_jax`, by default `~/.cache/tcm_jax`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tcm_jax"


def keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, for the next process; JAX_COMPILATION_CACHE_DIR overrules.

    Not on JAX 0.5: its kept programs corrupt donated buffers (NaNs when training was resumed on 0.5.3).
    """
    if jax.__version_info__ < (0, 6):
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A compressed picture and what is known about it."""

    data: bytes  # the whole .tcm file
    reconstruction: np.ndarray  # uint8 [H, W, 3], what a decoder gives
    estimated_bits: float  # under the float distributions (the rate of the training loss)
    table_bits: float  # information content under the integer tables and the coded indexes
    stream_bytes: int  # range-coded latents
    correction_bytes: int  # what portability costs: the file is this much shorter with guard_band = 0


@dataclasses.dataclass(frozen=True)
class _Slice:
    """One coded slice of y; device arrays [1, h, w, slice channels] but for the host's copies."""

    symbols: jax.Array
    mu: jax.Array
    sigma: jax.Array
    support: jax.Array
    positions: np.ndarray  # corrections, int32 [n]
    indexes: np.ndarray  # tables, int32
    values: np.ndarray  # the symbols on the host, int32


class Codec:
    """Compresses pictures with one set of weights.

    `coder` is the range coder's engine (`auto`, `native`, `tfc`); `guard_band` how far, relatively, a decoder's scales
    may be off (0: only the same machine and software decode the file).
    """

    def __init__(self, weights: Weights, coder: str = "auto", guard_band: float = GUARD_BAND):
        self.weights, self.coder, self.guard_band = weights, coder, guard_band
        self.model_id = bytes.fromhex(weights.identity)[:8]
        self.model = TCM(weights.config)
        self.params = jax.device_put(weights.params)
        range_coder.check_engine(coder)
        if not 0 <= guard_band <= MAX_GUARD_BAND:
            raise ConfigError(f"the guard band must lie between 0 and {MAX_GUARD_BAND}, not {guard_band}")

    def compress(self, image: np.ndarray, quality: float | None = None) -> bytes:
        """uint8 [H, W, 3] of any size from 1x1 to the bytes of a `.tcm` file.

        `quality`, 1 to 100 in steps of 0.01 (50 if None), is for variable-rate weights. Raises ImageError for other
        arrays, ConfigError for a quality that is out of range or that these weights do not have.
        """
        container, _, _, _ = self._encode(image, quality)
        return pack(container)

    def encode(self, image: np.ndarray, quality: float | None = None) -> Encoded:
        """As `compress`, with the decoder's picture and where the bytes go; takes about a decoding longer."""
        container, z, slices, decoded = self._encode(image, quality)
        data = pack(container)
        bare = dataclasses.replace(container, corrections=(np.empty(0, np.int32),) * len(slices))
        decoded.append(self._latents(len(slices) - 1, slices[-1]))
        picture = np.asarray(_synthesize(self.model, self.params, decoded, self._level(container.quality)))
        symbols, sigmas = [s.symbols for s in slices], [s.sigma for s in slices]
        coded = [(_hyper_indexes(z.shape), np.asarray(z)), *((s.indexes, s.values) for s in slices)]
        return Encoded(
            data=data,
            reconstruction=picture[: image.shape[0], : image.shape[1]],
            estimated_bits=float(_information(self.model, self.params, z, symbols, sigmas)),
            table_bits=sum(range_coder.information_content(self.weights.tables, *pair) for pair in coded),
            stream_bytes=len(container.stream),
            correction_bytes=len(data) - len(pack(bare)),
        )

    def decompress(self, data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Bytes of a `.tcm` file to the picture, uint8 [H, W, 3].

        Raises StreamError for anything that is no intact file, ModelMismatchError for a file of other weights, and
        ArithmeticMismatchError if this device's arithmetic is too far from the encoder's.
        """
        file = parse(data, max_pixels)
        slices = self.weights.config.num_slices
        if file.model_id != self.model_id:
            raise ModelMismatchError(
                f"this file was written with model {file.model_id.hex()}, but the weights loaded are "
                f"{self.model_id.hex()} ({self.weights.name}); give the right ones with --weights"
            )
        if len(file.corrections) != slices:
            raise StreamError(f"the file is altered: it has {len(file.corrections)} slices, its model {slices}")
        if (file.quality is None) != (self.weights.config.levels == 0):
            raise StreamError("the file is altered: only files of variable-rate models have a quality")
        level = self._level(file.quality)
        picture = np.asarray(_synthesize(self.model, self.params, self._decode(file, level), level))
        return picture[: file.height, : file.width]

    def _quality(self, quality: float | None) -> int | None:
        """Hundredths, as a file holds them."""
        if not self.weights.config.levels:
            if quality is not None:
                raise ConfigError(f"the weights {self.weights.name} have one rate; leave the quality out")
            return None
        quality = DEFAULT_QUALITY if quality is None else quality
        if not 1 <= quality <= 100:
            raise ConfigError(f"the quality must lie between 1 and 100, not {quality}")
        return round(100 * quality)

    def _level(self, quality: int | None) -> np.ndarray | None:
        """Gain level of a quality in hundredths, float32 [1]; 1 and 100 are the first and the last."""
        if quality is None:
            return None
        return np.array([(quality - 100) / 9900 * (self.weights.config.levels - 1)], np.float32)

    def _encode(
        self, image: np.ndarray, quality: float | None
    ) -> tuple[Container, jax.Array, list[_Slice], list[jax.Array]]:
        """(file, symbols of z, slices, decoded latents of all slices but the last)."""
        _check_image(image)
        hundredths = self._quality(quality)
        level = self._level(hundredths)
        y, z = _analyze(self.model, self.params, pad_to_multiple(image, PAD), level)
        encoder = range_coder.encoder(self.weights.tables, self.coder)
        values = _checked(z)
        encoder.encode(_hyper_indexes(z.shape), values)
        checksums = [symbol_checksum(values)]
        context = _hyper(self.model, self.params, z, level)
        slices, decoded = [], []
        for i, y_slice in enumerate(jnp.split(y, self.weights.config.num_slices, axis=-1)):
            if slices:
                decoded.append(self._latents(i - 1, slices[-1]))
            slices.append(self._code(y_slice, *_slice_params(self.model, self.params, i, *context, tuple(decoded))))
            encoder.encode(slices[-1].indexes, slices[-1].values)
            checksums.append(symbol_checksum(slices[-1].values, checksums[-1]))
        container = Container(
            width=image.shape[1],
            height=image.shape[0],
            model_id=self.model_id,
            guard_band=self.guard_band,
            corrections=tuple(s.positions for s in slices),
            checksums=tuple(checksums),
            stream=encoder.finish(),
            quality=hundredths,
        )
        return container, z, slices, decoded

    def _code(self, y: jax.Array, mu: jax.Array, sigma: jax.Array, support: jax.Array) -> _Slice:
        symbols, scales = _quantize(y, mu), np.asarray(sigma)
        positions = boundary_positions(scales, self.guard_band)
        indexes = coded_indexes(scales, positions)
        return _Slice(symbols, mu, sigma, support, positions, indexes, _checked(symbols))

    def _latents(self, i: int, coded: _Slice) -> jax.Array:
        return _slice_latents(self.model, self.params, i, coded.symbols, coded.mu, coded.support)

    def _decode(self, file: Container, level: np.ndarray | None) -> list[jax.Array]:
        """The decoded slices of y; stops at the first slice whose symbols are not the encoder's."""
        config = self.weights.config
        rows, columns = -(-file.height // PAD) * PAD, -(-file.width // PAD) * PAD
        decoder = range_coder.decoder(self.weights.tables, file.stream, self.coder)
        z = decoder.decode(_hyper_indexes((1, rows // HYPER_STRIDE, columns // HYPER_STRIDE, config.hyper_channels)))
        checksum = symbol_checksum(z)
        if not file.checksum_matches(0, checksum):
            raise StreamError("the file is altered: its hyper-latents do not have the checksum that it states")
        context = _hyper(self.model, self.params, z, level)
        count = rows * columns // LATENT_STRIDE**2 * config.slice_channels
        decoded = []
        for i in range(config.num_slices):
            mu, sigma, support = _slice_params(self.model, self.params, i, *context, tuple(decoded))
            indexes = coded_indexes(np.asarray(sigma), file.positions(i, count))
            try:
                symbols = decoder.decode(indexes)
                checksum = symbol_checksum(symbols, checksum)
                intact = file.checksum_matches(i + 1, checksum)
            except StreamError:  # the file as a whole is intact, but wrong tables lead the decoder anywhere
                intact = False
            if not intact:
                raise ArithmeticMismatchError(
                    f"slice {i + 1} of {config.num_slices} does not decode to what was encoded: this device's "
                    f"arithmetic differs by more than the file allows ({file.guard_band:.0e} relative)"
                )
            decoded.append(_slice_latents(self.model, self.params, i, symbols, mu, support))
        decoder.finish()
        return decoded


def _check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError("the codec takes uint8 arrays of shape [height, width, 3]")
    if 0 in image.shape:
        raise ImageError("the picture has no pixels")
    padded = -(-image.shape[0] // PAD) * -(-image.shape[1] // PAD) * PAD**2
    if padded > MAX_PIXELS:
        raise ImageError(f"the picture has {image.shape[1]}x{image.shape[0]} pixels, over the limit of {MAX_PIXELS:,}")


def _checked(symbols: jax.Array) -> np.ndarray:
    """The symbols on the host; a broken network's infinities and NaNs are huge integers by now."""
    host = np.asarray(symbols)
    if host.size and max(abs(int(host.min())), abs(int(host.max()))) > MAX_SYMBOL:
        raise WeightsError("these weights give latents that cannot be coded: they are not trained, or are damaged")
    return host


def _hyper_indexes(shape: tuple[int, ...]) -> np.ndarray:
    """Table of each hyper-latent: 64 + channel, int32 of `shape` [1, h, w, channels]."""
    channels = np.arange(len(scale_table()), len(scale_table()) + shape[-1], dtype=np.int32)
    return np.broadcast_to(channels, shape)
