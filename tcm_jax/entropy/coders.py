"""Range coding in tensorflow-compression's format (`entropy_encode_index`), with the same bytes from two coders.

`native` is Numba and runs everywhere; `tfc` is the C++ of tensorflow-compression-ops, from the extra `tfc`. A stream
written by one decodes with the other. docs/range_coder.md works this example through, byte by byte:

    >>> lookup = [-16, 0, 0x4000, 0xC000, 0xF000, 0x10000, -16, 0, 0x6000, 0x10000]
    >>> tables = RangeTables(np.array(lookup, np.int32), np.array([-1, 7], np.int32))
    >>> indexes, symbols = np.array([0, 1, 0], np.int32), np.array([0, 7, 20], np.int32)
    >>> writer = encoder(tables)
    >>> writer.encode(indexes, symbols)
    >>> stream = writer.finish()
    >>> stream.hex(" ")
    '6d 1d'
    >>> decoder(tables, stream).decode(indexes)
    array([ 0,  7, 20], dtype=int32)
"""

import importlib
import importlib.util
from typing import Any, Protocol

import numpy as np

from tcm_jax.entropy import range_coder
from tcm_jax.entropy.range_tables import MAX_SYMBOL, PRECISION, RangeTables
from tcm_jax.errors import ConfigError, StreamError
from tcm_jax.system.extras import require_extra

CODERS = ("auto", "tfc", "native")
_CHUNK = 1 << 16  # symbols coded at a time, so that the scratch space stays small
_ESCAPE_BYTES = 10  # the longest code of a symbol: 16 bits of escape, 2 * 29 + 1 of Elias gamma, a sign


class Encoder(Protocol):
    """Writes one stream."""

    def encode(self, indexes: np.ndarray, symbols: np.ndarray) -> None:
        """Append symbols (int32, any shape, in C order), each coded with the table of the same place in `indexes`.

        Raises:
            ValueError: sizes differ, an index is no table, or a symbol lies outside +-2**29.
        """

    def finish(self) -> bytes:
        """The whole stream; the encoder is used up."""


class Decoder(Protocol):
    """Reads one stream, symbols in the order in which they were encoded."""

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        """The next symbols, int32 of the shape of `indexes` (int32, in C order).

        Raises:
            ValueError: an index is no table.
            StreamError: the stream ends early or holds an impossible escape; `seek` makes the decoder usable again.
        """

    def tell(self) -> Any:
        """Where in the stream the decoder is, for `seek`."""

    def seek(self, place: Any) -> None:
        """Goes back to where `tell` was called."""

    def finish(self) -> None:
        """Raises StreamError unless the stream was consumed exactly."""


def encoder(tables: RangeTables, coder: str = "auto") -> Encoder:
    """A new stream's encoder; `auto` takes `tfc` where it is installed, else `native`.

    Raises:
        ConfigError: unknown coder.
        MissingExtraError: `tfc` is asked for and not installed.
    """
    check_coder(coder)
    if coder == "auto":
        coder = "tfc" if importlib.util.find_spec("tensorflow_compression_ops") else "native"
    return _TfcEncoder(tables) if coder == "tfc" else _NativeEncoder(tables)


def decoder(tables: RangeTables, data: bytes, coder: str = "auto") -> Decoder:
    """A decoder of the stream `data`; `auto` is `native`.

    Decode with `tfc` for cross-checks and on files that you trust only: an altered file can make its C++ run forever.

    Raises:
        ConfigError: unknown coder.
        MissingExtraError: `tfc` is asked for and not installed.
    """
    check_coder(coder)
    return _TfcDecoder(tables, data) if coder == "tfc" else _NativeDecoder(tables, data)


def load(coder: str) -> None:
    """Loads what `coder` needs, for who wants that done before the first stream; raises what `encoder` raises."""
    check_coder(coder)
    if coder == "tfc":
        _tfc_ops()
    else:
        range_coder.decode.load()


def information_content(tables: RangeTables, indexes: np.ndarray, symbols: np.ndarray) -> float:
    """Bits that `symbols` cost under the integer tables, escapes included; the length of a stream within 0.1 %.

    Takes what `Encoder.encode` takes, and raises the same errors.
    """
    indexes, symbols = _flat(tables, indexes), _flat_symbols(indexes, symbols)
    sizes = tables.sizes[indexes].astype(np.int64)
    values = symbols.astype(np.int64) - tables.offsets[indexes]
    escaped = (values < 0) | (values >= sizes)
    at = tables.starts[indexes] + np.where(escaped, sizes, values)
    bits = np.sum(PRECISION - np.log2(tables.lookup[at + 1] - tables.lookup[at]))
    gammas = np.where(values < 0, -values, values - sizes + 1)[escaped]
    # frexp gives the bit length exactly, where log2 could round up.
    return float(bits + np.sum(2.0 * np.frexp(gammas.astype(np.float64))[1]))


def check_coder(coder: str) -> None:
    """Raises ConfigError unless `coder` is one of `CODERS`."""
    if coder not in CODERS:
        raise ConfigError(f"unknown coder {coder!r}; choose one of {', '.join(CODERS)}")


def _flat(tables: RangeTables, indexes: np.ndarray) -> np.ndarray:
    flat = _int32(indexes, "indexes")
    if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < len(tables):
        raise ValueError(_no_table(tables))
    return flat


def _no_table(tables: RangeTables) -> str:
    return f"indexes must lie in [0, {len(tables)})"


def _flat_symbols(indexes: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    flat = _int32(symbols, "symbols")
    if flat.size != np.size(indexes):
        raise ValueError(f"{np.size(indexes)} indexes for {flat.size} symbols")
    if flat.size and not -MAX_SYMBOL <= int(flat.min()) <= int(flat.max()) <= MAX_SYMBOL:
        raise ValueError("symbols must lie within +-2**29")
    return flat


def _int32(array: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype != np.int32:
        raise ValueError(f"{name} must be int32, not {array.dtype}")
    return np.ascontiguousarray(array).reshape(-1)


class _NativeEncoder:
    def __init__(self, tables: RangeTables):
        self._tables = tables
        self._state = np.array([0, 0xFFFFFFFF, 0], np.int64)
        self._stream = bytearray()

    def encode(self, indexes: np.ndarray, symbols: np.ndarray) -> None:
        t = self._tables
        indexes, symbols = _flat(t, indexes), _flat_symbols(indexes, symbols)
        for i in range(0, indexes.size, _CHUNK):
            part = indexes[i : i + _CHUNK]
            held_back = 2 + (int(self._state[2]) >> 16)
            out = np.empty(_ESCAPE_BYTES * part.size + 2 + held_back, np.uint8)
            written = range_coder.encode(
                out, self._state, t.lookup, t.starts, t.sizes, t.offsets, part, symbols[i : i + _CHUNK]
            )
            self._stream += out[:written].data

    def finish(self) -> bytes:
        base, last, delay = (int(x) for x in self._state)
        if delay:
            tail = (delay & 0xFFFF).to_bytes(2, "big")
        elif base == 0:
            tail = b""
        elif (rounded := -(-base >> 24)) <= (base + last) >> 24:
            tail = bytes([rounded])
        else:
            tail = (-(-base >> 16)).to_bytes(2, "big")
        # A decoder reads zeros past the end, so one zero byte here need not be written.
        return bytes(self._stream) + (tail[:1] if tail[1:] == b"\0" else tail)


class _NativeDecoder:
    def __init__(self, tables: RangeTables, data: bytes):
        self._tables = tables
        self._size = len(data)
        count = (len(data) + range_coder.MAX_OVERREAD) // 2 + range_coder.ESCAPE_WORDS
        self._words = np.frombuffer(bytes(data).ljust(2 * count, b"\0"), ">u2").astype(np.uint16)
        self._state = np.array([0, 0xFFFFFFFF, int(self._words[0]) << 16 | int(self._words[1]), 2], np.int64)

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        t = self._tables
        flat = _int32(indexes, "indexes")
        out = np.empty(flat.size, np.int32)
        tables = t.lookup, t.starts, t.sizes, t.offsets, t.likeliest, t.buckets
        code = range_coder.decode(out, self._state, self._words, *tables, flat)
        if code == range_coder.BAD_INDEX:
            raise ValueError(_no_table(t))
        if code == range_coder.PAST_END:
            raise StreamError("the coded latents end early: the file is truncated or altered")
        if code == range_coder.BAD_ESCAPE:
            raise StreamError("the coded latents hold an impossible escape code: the file is altered")
        return out.reshape(np.shape(indexes))

    def tell(self) -> np.ndarray:
        return self._state.copy()

    def seek(self, place: np.ndarray) -> None:
        self._state[:] = place

    def finish(self) -> None:
        base, last, value, position = (int(x) for x in self._state)
        if base == 0 or base + last > 0xFFFFFFFF:
            expected = 0
        else:
            shift = 24 if (base - 1) >> 24 < (base + last) >> 24 else 16
            expected = -(-base >> shift) << shift
        if 2 * position < self._size or value != expected:
            raise StreamError("the coded latents do not end where they should: the file is altered")


def _tfc_ops():
    with require_extra("tfc", "the tfc coder needs tensorflow-compression-ops"):
        return importlib.import_module("tensorflow_compression_ops")


class _TfcEncoder:
    def __init__(self, tables: RangeTables):
        self._ops = _tfc_ops()
        self._tables = tables
        self._handle = self._ops.create_range_encoder([], tables.lookup)

    def encode(self, indexes: np.ndarray, symbols: np.ndarray) -> None:
        indexes, symbols = _flat(self._tables, indexes), _flat_symbols(indexes, symbols)
        if indexes.size:
            values = symbols - self._tables.offsets[indexes]
            self._handle = self._ops.entropy_encode_index(self._handle, indexes, values)

    def finish(self) -> bytes:
        return self._ops.entropy_encode_finalize(self._handle).numpy()


class _TfcDecoder:
    def __init__(self, tables: RangeTables, data: bytes):
        self._ops = _tfc_ops()
        self._tables = tables
        self._data = bytes(data)
        self.seek(())

    def tell(self) -> tuple[np.ndarray, ...]:
        return self._decoded

    def seek(self, place: tuple[np.ndarray, ...]) -> None:
        """Decodes from the stream's start, as the C++ decoder does not go back."""
        self._handle = self._ops.create_range_decoder(self._data, self._tables.lookup)
        self._decoded: tuple[np.ndarray, ...] = ()
        for indexes in place:
            self.decode(indexes)

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        flat = _flat(self._tables, indexes)
        self._decoded += (flat,)
        values = np.empty(0, np.int32)
        if flat.size:
            self._handle, decoded = self._ops.entropy_decode_index(self._handle, flat, flat.shape, np.int32)
            values = decoded.numpy()
        return (values + self._tables.offsets[flat]).reshape(np.shape(indexes))

    def finish(self) -> None:
        if not bool(self._ops.entropy_decode_finalize(self._handle)):
            raise StreamError("the coded latents do not end where they should: the file is altered")
