"""The vectors of this machine, and the tiles of sums that its registers hold."""

import platform
from collections.abc import Mapping

import llvmlite.binding as llvm

_FEATURES = llvm.get_host_cpu_features()
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx") else 4
# Of a tile: its sums fill half of the registers, of which AVX has 16 and others 32.
ROWS, COLUMNS = {16: (8, 32), 8: (4, 16), 4: (4, 16)}[LANES]
VECTORS = COLUMNS // LANES
STEP = 4 * LANES  # bytes from one vector to the next


def fuses(features: Mapping[str, bool], machine: str) -> bool:
    """Whether a processor has an instruction for a * b + c; x86 without it calls `fmaf`, 500 times as slow."""
    return bool(features.get("fma")) or machine.lower() not in ("x86_64", "amd64", "i386", "i686", "x86")


FUSES = fuses(_FEATURES, platform.machine())
