"""The tables of the range coder: integers, stored with a model's weights (docs/format.md)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tcm_jax.errors import WeightsError

PRECISION = 16  # bits of a frequency: those of a table sum to 2**16
MAX_SYMBOL = 1 << 29  # keeps every escape below 2**30; beyond it the C++ encoder never returns
BUCKET_BITS = 6  # of a cumulative frequency, which a search within a bucket finds
_MAX_OFFSET = 1 << 20


@dataclass(frozen=True, eq=False)
class RangeTables:
    """Integer probability tables of symbols, as tensorflow-compression reads them.

    Attributes:
        lookup: int32 [L], table after table: -16 (16 bits, with escape), then the cumulative frequencies 0 ... 65536,
            strictly increasing. The last interval of a table is the escape symbol.
        offsets: int32 [T], the smallest regular symbol of each table, within +-2**20.

    Raises:
        WeightsError: the arrays are no such tables (they may come from a damaged weight file).
    """

    lookup: np.ndarray
    offsets: np.ndarray

    def __post_init__(self):
        for name in ("lookup", "offsets"):
            array = np.array(getattr(self, name), order="C")
            if array.dtype != np.int32 or array.ndim != 1:
                raise WeightsError(f"range tables: {name} must be a one-dimensional int32 array; export them again")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        problem = _problem(self.lookup, self.offsets)
        if problem:
            raise WeightsError(f"range tables: {problem}; the weight file is damaged, export it again")

    def __len__(self) -> int:
        """Number of tables, T."""
        return self.offsets.size

    @cached_property
    def starts(self) -> np.ndarray:
        """Position of each table's first cumulative frequency (the 0) in `lookup`; int32 [T]."""
        return (np.flatnonzero(self.lookup < 0) + 1).astype(np.int32)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of regular symbols of each table, without the escape; int32 [T]."""
        return np.diff(self.starts, append=self.lookup.size + 1).astype(np.int32) - 3

    @cached_property
    def likeliest(self) -> np.ndarray:
        """The symbol of each table with the widest interval, counted from its first; int32 [T]."""
        widths = np.split(np.diff(self.lookup), self.starts[1:] - 1)
        return np.array([np.argmax(row[1 : n + 2]) for row, n in zip(widths, self.sizes, strict=True)], np.int32)

    @cached_property
    def buckets(self) -> np.ndarray:
        """Symbol that holds the cumulative frequency 64 b, where a search begins; uint16 [T, 1024]."""
        targets = np.arange(1 << PRECISION - BUCKET_BITS) << BUCKET_BITS
        rows = [np.searchsorted(self.lookup[s : s + n + 2], targets, side="right") - 1
                for s, n in zip(self.starts, self.sizes, strict=True)]  # fmt: skip
        return np.array(rows, np.uint16)


def _problem(lookup: np.ndarray, offsets: np.ndarray) -> str | None:
    """What is wrong with the two arrays, or None."""
    is_start = lookup < 0
    starts = np.flatnonzero(is_start)
    ends = np.append(starts[1:], lookup.size)
    if not starts.size or starts[0] != 0 or np.any(lookup[starts] != -PRECISION):
        return f"a table does not start with {-PRECISION}"
    if np.any(ends - starts < 3) or np.any(lookup[starts + 1] != 0) or np.any(lookup[ends - 1] != 1 << PRECISION):
        return f"cumulative frequencies do not run from 0 to {1 << PRECISION}"
    if np.any((lookup[1:] <= lookup[:-1]) & ~is_start[1:]):
        return "cumulative frequencies do not increase"
    if offsets.size != starts.size:
        return f"{starts.size} tables but {offsets.size} offsets"
    if np.any(offsets > _MAX_OFFSET) or np.any(offsets < -_MAX_OFFSET):
        return f"an offset lies outside +-{_MAX_OFFSET}"
    return None
