"""The coded symbols of a picture, z and one slice after the other, with the checksums after each (docs/format.md)."""

import zlib
from collections.abc import Iterable

import numpy as np

from tcm_jax.codec.container import Container
from tcm_jax.entropy import coders
from tcm_jax.entropy.range_tables import RangeTables
from tcm_jax.errors import StreamError


def symbol_checksum(symbols: np.ndarray, previous: int = 0) -> int:
    """CRC-32 of int32 symbols in C order as little-endian bytes, continued from `previous`; 32 bits."""
    return zlib.crc32(np.ascontiguousarray(symbols, "<i4").data, previous)


class StreamWriter:
    """A range coder's stream and the checksums after each of its parts: z, the slices."""

    def __init__(self, tables: RangeTables, coder: str):
        self.encoder = coders.encoder(tables, coder)
        self.checksums: list[int] = []
        self._checksum = 0

    def write(self, indexes: np.ndarray, symbols: np.ndarray) -> None:
        """Appends some rows of a part, or all of it."""
        self.encoder.encode(indexes, symbols)
        self._checksum = symbol_checksum(symbols, self._checksum)

    def end_part(self) -> None:
        """Ends the part, which has all its rows: keeps its checksum."""
        self.checksums.append(self._checksum)


class StreamReader:
    """A decoder of what `StreamWriter` wrote, which knows by the checksums whether it has the right tables."""

    def __init__(self, file: Container, tables: RangeTables, coder: str):
        self._file, self._decoder = file, coders.decoder(tables, file.stream, coder)
        self._parts, self._start = 0, (self._decoder.tell(), 0)  # of the part at hand: place and checksum
        self._checksum = 0

    def read(self, choices: Iterable[np.ndarray]) -> np.ndarray | None:
        """Reads the next part, int32, by the first of `choices`, int32 tables of its shape, that gives what was coded.

        None: none does.
        """
        for indexes in choices:
            symbols = self.read_rows(indexes)
            if self.end_part(symbols is not None):
                return symbols
        return None

    def read_rows(self, indexes: np.ndarray) -> np.ndarray | None:
        """Reads the next rows of a part, int32, by their tables (int32). None: a table is wrong, `end_part` is next."""
        try:
            symbols = self._decoder.decode(indexes)
        except StreamError:  # the file as a whole is intact, but wrong tables lead the decoder anywhere
            return None
        self._checksum = symbol_checksum(symbols, self._checksum)
        return symbols

    def end_part(self, complete: bool) -> bool:
        """Whether the part was read as encoded; otherwise the next rows are its first again."""
        right = complete and self._file.checksum_matches(self._parts, self._checksum)
        if right:
            self._parts, self._start = self._parts + 1, (self._decoder.tell(), self._checksum)
        else:
            self._decoder.seek(self._start[0])
            self._checksum = self._start[1]
        return right

    def finish(self) -> None:
        """Raises StreamError unless the stream was consumed exactly."""
        self._decoder.finish()
