"""Symbols of the latents to and from the stream: with which tables, and what is found out beside the coding."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tcm_jax.codec.container import Container
from tcm_jax.codec.detail_slices import CodedSlices
from tcm_jax.codec.guard_band import SideWriter, decoded_indexes, possible_indexes
from tcm_jax.codec.streams import StreamReader, StreamWriter
from tcm_jax.entropy import coders
from tcm_jax.entropy.range_tables import RangeTables
from tcm_jax.errors import ArithmeticMismatchError

if TYPE_CHECKING:
    from tcm_jax.codec.tiled_network import TiledNetwork


@dataclasses.dataclass
class Measured:
    """What is found out beside the coding, where it is wanted: bits, and (`kept`) the decoded slices."""

    bits: bool = False
    kept: bool = False
    estimated_bits: float = 0.0
    table_bits: float = 0.0
    coded: CodedSlices = dataclasses.field(default_factory=CodedSlices)

    def copy_from(self, other: "Measured") -> None:
        """Replaces all fields by those of `other`."""
        vars(self).update(vars(other))


class SymbolWriter:
    """Writes int32 symbols [h, w, channels] with the tables that their scales choose."""

    def __init__(self, network: "TiledNetwork", tables: RangeTables, coder: str, guard_band: float, measured: Measured):
        self.stream, self.sides = StreamWriter(tables, coder), SideWriter(guard_band)
        self._network, self._tables, self._measured = network, tables, measured

    def write_hyper(self, indexes: np.ndarray, z: np.ndarray) -> None:
        """Writes the symbols of z, with the tables of its channels."""
        self.stream.write(indexes, z)
        self.stream.end_part()
        if self._measured.bits:
            self._measured.table_bits += coders.information_content(self._tables, indexes, z)
            self._measured.estimated_bits += self._network.hyper_information(z)

    def write(self, symbols: np.ndarray, sigma: np.ndarray) -> None:
        """Writes some rows of a part, or all of it; `sigma` is float32."""
        indexes = self.sides.indexes(sigma)
        self.stream.write(indexes, symbols)
        if self._measured.bits:
            self._measured.table_bits += coders.information_content(self._tables, indexes, symbols)
            self._measured.estimated_bits += self._network.slice_information(symbols, sigma)

    def write_part(self, symbols: np.ndarray, sigma: np.ndarray) -> None:
        """Writes all of a part, and ends it."""
        self.write(symbols, sigma)
        self.stream.end_part()


class SymbolReader:
    """Reads int32 symbols [h, w, channels] with the tables that their scales choose."""

    def __init__(self, file: Container, tables: RangeTables, coder: str):
        self.stream = StreamReader(file, tables, coder)
        self._file, self._parts, self._before, self._read = file, 0, 0, 0  # symbols of the parts before, and of this

    def read_rows(self, sigma: np.ndarray) -> np.ndarray | None:
        """Reads the next rows of a part, int32, by their float32 scales. None: a table is wrong, `end_part` is next."""
        indexes = decoded_indexes(self._file, self._parts, sigma, self._before + self._read)
        self._read += sigma.size
        return self.stream.read_rows(indexes)

    def end_part(self, complete: bool) -> bool:
        """Whether the part was read as encoded; otherwise the next rows are its first again."""
        right = self.stream.end_part(complete)
        if right:
            self._parts, self._before = self._parts + 1, self._before + self._read
        self._read = 0
        return right

    def read_part(self, sigma: np.ndarray) -> np.ndarray:
        """Reads all of a part, with a search for one wrong table. Raises ArithmeticMismatchError."""
        symbols = self.stream.read(possible_indexes(self._file, self._parts, sigma, self._before))
        self._parts, self._before = self._parts + 1, self._before + sigma.size
        if symbols is None:
            raise ArithmeticMismatchError(
                f"slice {self._parts} of {self._file.slices} does not decode to what was encoded: this "
                f"device's arithmetic differs by more than the file allows ({self._file.guard_band:.0e} relative)"
            )
        return symbols
