"""The residual layer of a file: what the latents miss of a picture, or all of it, exactly or within a bound.

docs/residual.md specifies the bytes. Pictures are uint8 [H, W] or [H, W, 3]; `x_hat` is what the latents decode to, of
the same shape, or None where there are none.
"""

import dataclasses
import functools
import struct
import zlib

import numpy as np

from tcm_jax.codec.byte_reader import ByteReader, counted, varint
from tcm_jax.codec.residual.fit import Model, buffers, code, fit
from tcm_jax.codec.residual.tables import EXPONENTS, WIDTHS, level_of, tables
from tcm_jax.entropy import pattern_coder, pixel_coder, pixel_moments
from tcm_jax.entropy.pixel_coder import LEVELS, SPARE
from tcm_jax.entropy.pixel_prediction import ACTIVITIES, BLOCK, TAPS
from tcm_jax.errors import StreamError

PREDICTED, PATTERNS, STORED = range(3)
STRIP = 128  # rows that are a stream of their own
_FEW_REPEATS = 0.1  # share of pixels equal to a neighbour, below which pictures of many colours are predicted alone
_FEW_GREYS = 128  # as many a grey picture of few colours has at most; others have 256
_SMALL = 40  # times smaller than its samples: what repeats make of a picture for which prediction is not tried
_ALTERED = "the .tcm file is altered: its residual layer "


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer's bytes and the picture that it decodes to."""

    data: bytes
    decoded: np.ndarray


class ChecksumError(StreamError):
    """The layer does not decode to the picture that was encoded: it, or x_hat, is another. `decoder.py` catches it."""


def load() -> None:
    """Loads the layer's compiled functions, for who wants that done before the first layer."""
    for module in (pattern_coder, pixel_moments, pixel_coder):
        module.load()


def encode_layer(picture: np.ndarray, x_hat: np.ndarray | None = None, step: int = 1) -> Layer:
    """The smallest layer whose picture is off by at most `step // 2`."""
    choices = _patterns(picture) if x_hat is None else []
    if not choices or len(choices[0].data) * _SMALL > picture.size:
        choices.append(_predicted(picture, x_hat, step))
    best = min(choices, key=lambda layer: len(layer.data))
    if x_hat is None and len(best.data) > len(_head(STORED, picture)) + picture.size:
        return Layer(_head(STORED, picture) + picture.tobytes(), picture)
    return best


def decode_layer(data: bytes, x_hat: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """The picture, of `shape`; `x_hat` is overwritten.

    Raises:
        ChecksumError: it is not the encoder's.
        StreamError: no such layer.
    """
    if len(data) < 5 or data[0] > STORED or (data[0] != PREDICTED and x_hat is not None):
        raise StreamError(_ALTERED + "is of an unknown kind")
    decode = (_decode_predicted, _decode_patterns, _decode_stored)[data[0]]
    picture = decode(data, np.empty(shape, np.uint8) if x_hat is None else x_hat, x_hat is not None)
    if not _matches(picture, data):
        raise ChecksumError(_ALTERED + "does not decode to the picture that was encoded")
    return picture


def step_of(data: bytes) -> int:
    """The quantizer's step of a layer: 1 is exact, others are off by up to half of it."""
    return data[5] if len(data) > 5 and data[0] == PREDICTED else 1


def _matches(picture: np.ndarray, data: bytes) -> bool:
    return zlib.crc32(picture.data) == struct.unpack("<I", data[1:5])[0]


def _head(kind: int, picture: np.ndarray) -> bytes:
    return struct.pack("<BI", kind, zlib.crc32(np.ascontiguousarray(picture).data))


def repeats(picture: np.ndarray) -> float:
    """Share of pixels that are equal to a neighbour: the largest of those on the left, above, and two to the left."""
    deep, shares = _deep(picture), [0.0]
    for row, column in ((0, 1), (1, 0), (0, 2)):
        if min(deep.shape[0] - row, deep.shape[1] - column) > 0:
            same = deep[row:, column:] == deep[: deep.shape[0] - row, : deep.shape[1] - column]
            shares.append(float(same.all(-1).mean()))
    return max(shares)


def _deep(picture: np.ndarray) -> np.ndarray:
    """The picture with an axis of channels."""
    return picture if picture.ndim == 3 else picture[..., None]


def _predicted(picture: np.ndarray, x_hat: np.ndarray | None, step: int) -> Layer:
    deep_x_hat = None if x_hat is None else np.ascontiguousarray(_deep(x_hat))
    model = fit(_deep(picture), deep_x_hat, step)
    body = bytes([step, model.coefs.shape[1]]) + counted(zlib.compress(_pack_model(model), 9))
    decoded = np.array(picture, order="C")
    state = buffers(_deep(picture).shape[2], picture.shape[1])
    lookup = tables(model.shapes, step)[1:]
    for top in range(0, picture.shape[0], STRIP):
        rows = top, min(top + STRIP, picture.shape[0])
        symbols, contexts = code(_deep(decoded), deep_x_hat, model, rows, state)
        words = np.empty(2 * symbols.size + 2, np.uint16)
        start = pixel_coder.encode(words, symbols.ravel(), contexts.ravel(), *lookup)
        body += counted(words[start:].astype("<u2").tobytes())
    return Layer(_head(PREDICTED, decoded) + body, decoded)


def _decode_predicted(data: bytes, picture: np.ndarray, with_hat: bool) -> np.ndarray:
    deep = _deep(picture)
    height, width, channels = deep.shape
    if len(data) < 7 or 0 in data[5:7]:
        raise StreamError(_ALTERED + "lacks its model")
    reader = _reader(data, 7)
    model = _parse_model(reader.counted(), data[5], channels, data[6], height, width)
    lookup, state = tables(model.shapes, model.step), buffers(channels, width)
    for top in range(0, height, STRIP):
        strip = reader.counted()
        if len(strip) < 4 or len(strip) % 2:
            raise StreamError(_ALTERED + "ends early")
        words = np.concatenate([np.frombuffer(strip, "<u2").astype(np.uint16), np.zeros(SPARE, np.uint16)])
        status = pixel_coder.decode(deep, deep, with_hat, top, min(top + STRIP, height), model.step, *state,
                                    model.coefs, model.weights, model.classes, level_of(), *lookup, words)  # fmt: skip
        if status:
            raise ChecksumError(_ALTERED + "does not decode to the picture that was encoded")
    if reader.left:
        raise StreamError(_ALTERED + "is too long")
    return picture


def _reader(data: bytes, position: int) -> ByteReader:
    return ByteReader(data, position, _ALTERED + "ends early")


def _pack_model(model: Model) -> bytes:
    """The model's bytes: the low ones of all numbers, then the high ones, and the rest."""
    numbers = np.concatenate([model.coefs.ravel(), model.weights.ravel()]).astype("<i2").view(np.uint8).reshape(-1, 2)
    return numbers.T.tobytes() + model.shapes.tobytes() + model.classes.tobytes()


def _parse_model(packed: bytes, step: int, channels: int, classes: int, height: int, width: int) -> Model:
    blocks = -(-height // BLOCK), -(-width // BLOCK)
    numbers, contexts = channels * (classes * TAPS + ACTIVITIES), channels * LEVELS
    size = 2 * numbers + 2 * contexts + blocks[0] * blocks[1]
    decoder = zlib.decompressobj()
    try:
        data = np.frombuffer(decoder.decompress(packed, size + 1), np.uint8)
    except zlib.error as error:
        raise StreamError(_ALTERED + "has a model that cannot be unpacked") from error
    if len(data) != size or not decoder.eof or decoder.unused_data:
        raise StreamError(_ALTERED + "has a model of another size")
    low, high = data[: 2 * numbers].astype(np.int32).reshape(2, -1)
    values = (low | high << 8) - (high >> 7 << 16)
    coefs = np.ascontiguousarray(values[: channels * classes * TAPS].reshape(channels, classes, TAPS))
    weights = np.ascontiguousarray(values[channels * classes * TAPS :].reshape(channels, ACTIVITIES))
    shapes = data[2 * numbers : 2 * numbers + 2 * contexts].reshape(-1, 2)
    chosen = data[2 * numbers + 2 * contexts :].reshape(blocks)
    if chosen.max() >= classes or shapes[:, 0].max() >= WIDTHS or shapes[:, 1].max() >= len(EXPONENTS):
        raise StreamError(_ALTERED + "has a model that is out of range")
    return Model(step, coefs, weights, shapes, np.ascontiguousarray(chosen))


def _patterns(picture: np.ndarray) -> list[Layer]:
    """The layer that codes the picture by repeats, where pixels repeat or colours are few.

    Nothing otherwise, or if that takes more bytes than the samples do.
    """
    palette = _palette(picture)
    few_colours = 0 < len(palette) <= (_FEW_GREYS if picture.ndim == 2 else 256)
    if not few_colours and repeats(picture) < _FEW_REPEATS:
        return []
    stream = np.empty(picture.size + 1024, np.uint8)
    size = pattern_coder.code(np.array(_deep(picture), order="C"), palette, stream, True)
    if size < 0:
        return []
    gaps = b"".join(varint(gap) for gap in np.diff(palette, prepend=0).tolist())
    return [Layer(_head(PATTERNS, picture) + varint(len(palette)) + gaps + stream[:size].tobytes(), picture)]


def _palette(picture: np.ndarray) -> np.ndarray:
    """All pixels that there are as sorted integers, int32; empty if they are more than 256."""
    found: set[int] = set()
    for row in _deep(picture):
        values = functools.reduce(lambda sum_, part: sum_ << 8 | part, row.astype(np.int32).T)
        found.update(np.unique(values).tolist())
        if len(found) > 256:
            return np.empty(0, np.int32)
    return np.array(sorted(found), np.int32)


def _decode_patterns(data: bytes, picture: np.ndarray, with_hat: bool) -> np.ndarray:
    reader = _reader(data, 5)
    palette: list[int] = []
    colours = reader.varint()
    if colours > 256:
        raise StreamError(_ALTERED + "has too many colours")
    for _ in range(colours):
        palette.append(reader.varint() + (palette[-1] if palette else 0))
    deep = _deep(picture)
    if palette and palette[-1] >= 1 << 8 * deep.shape[2]:
        raise StreamError(_ALTERED + "has a colour that is none")
    stream = np.frombuffer(data, np.uint8, offset=reader.position).copy()
    read = pattern_coder.code(deep, np.array(palette, np.int32), stream, False)
    if read != len(stream) + pattern_coder.AHEAD:
        raise StreamError(_ALTERED + "ends early, or late")
    return picture


def _decode_stored(data: bytes, picture: np.ndarray, with_hat: bool) -> np.ndarray:
    if len(data) != 5 + picture.size:
        raise StreamError(_ALTERED + "is not of the picture's size")
    return np.frombuffer(data, np.uint8, offset=5).reshape(picture.shape).copy()
