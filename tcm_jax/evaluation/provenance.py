"""Where a result comes from: versions, commit, device and command, written into every result file."""

import datetime
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent
LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "pillow", "numba", "bjontegaard", "pillow-jxl-plugin")


def provenance(seeds: dict[str, int] | None = None) -> dict[str, Any]:
    """Strings by name, but for `libraries` and `seeds`, which are dictionaries; the time is UTC.

    `seeds` is empty for what draws no random numbers.
    """
    import jax

    devices = jax.devices()
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tcm_jax": installed("tcm_jax") or "not installed (run from its sources)",
        "commit": commit(),
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "processor": f"{_processor()}, {os.cpu_count()} threads",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": {name: found for name in LIBRARIES if (found := installed(name))},
        "seeds": seeds or {},
    }


def installed(name: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@functools.cache
def commit() -> str:
    """Git commit of the checkout that this package is in, with "+" after it if files differ from it; or "unknown"."""
    if not (PACKAGE.parent / ".git").exists():
        return "unknown"
    try:
        found = _git("rev-parse", "HEAD")
        return found + "+" if _git("status", "--porcelain", "--untracked-files=no") else found
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PACKAGE.parent), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()


def source_digest(*parts: str) -> str:
    """SHA-256 of the package's source files under `parts` (files or folders): what a cached result was computed by."""
    digest = hashlib.sha256()
    for part in parts:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
