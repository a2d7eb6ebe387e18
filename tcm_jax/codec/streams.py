"""The coded symbols of a picture, z and one slice after the other, with the checksums after each (docs/format.md)."""

import zlib
from collections.abc import Iterable

import numpy as np

from tcm_jax.codec.container import Container
from tcm_jax.entropy import engines
from tcm_jax.entropy.range_tables import RangeTables
from tcm_jax.errors import StreamError


def symbol_checksum(symbols: np.ndarray, previous: int = 0) -> int:
    """CRC-32 of int32 symbols in C order as little-endian bytes, continued from `previous`; 32 bits."""
    return zlib.crc32(np.ascontiguousarray(symbols, "<i4").data, previous)


class StreamWriter:
    """A range coder's stream and the checksums after each of its parts."""

    def __init__(self, tables: RangeTables, engine: str):
        self.encoder = engines.encoder(tables, engine)
        self.checksums: list[int] = []

    def write(self, indexes: np.ndarray, symbols: np.ndarray) -> None:
        """Appends z or a slice."""
        self.encoder.encode(indexes, symbols)
        self.checksums.append(symbol_checksum(symbols, self.checksums[-1] if self.checksums else 0))


class StreamReader:
    """A decoder of that stream, which knows by the checksums whether it has the right tables."""

    def __init__(self, file: Container, tables: RangeTables, engine: str):
        self._file, self._decoder = file, engines.decoder(tables, file.stream, engine)
        self._parts, self._checksum = 0, 0

    def read(self, choices: Iterable[np.ndarray]) -> np.ndarray | None:
        """The next part, int32, with the first of `choices`, tables of its shape (int32), that gives what was encoded.

        None: none does, and the reader is used up.
        """
        start = self._decoder.tell()
        for tried, indexes in enumerate(choices):
            if tried:
                self._decoder.seek(start)
            try:
                symbols = self._decoder.decode(indexes)
            except StreamError:  # the file as a whole is intact, but wrong tables lead the decoder anywhere
                continue
            checksum = symbol_checksum(symbols, self._checksum)
            if self._file.checksum_matches(self._parts, checksum):
                self._parts, self._checksum = self._parts + 1, checksum
                return symbols
        return None

    def finish(self) -> None:
        """Raises StreamError unless the stream was consumed exactly."""
        self._decoder.finish()
