"""The user's cache folder. Nothing in it is needed: what is not there, or is damaged, is made again.

Its files carry a checksum, so that one that is cut, empty or altered is not taken for what was written.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tcm_jax.system.files import temporary_name

_DIGEST = 32  # bytes, at the start of a file


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/tcm_jax`, by default `~/.cache/tcm_jax`; None for a user without a home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(named) if Path(named).is_absolute() else Path.home() / ".cache") / "tcm_jax"
    except RuntimeError:  # no HOME, and an unknown user
        return None


def read(path: Path) -> bytes | None:
    """What `write_quietly` wrote to a file of the cache; None if that is not there, or not as it was written."""
    try:
        data = content(path)
    except OSError:
        return None
    return data[_DIGEST:] if data[:_DIGEST] == _digest(path, data[_DIGEST:]) else None


def content(path: Path) -> bytes:
    """The bytes of a file. Raises OSError, also for what is none, as a pipe, from which a read might never return."""
    if not path.is_file():
        raise FileNotFoundError(path)
    return path.read_bytes()


def write_quietly(path: Path, data: bytes) -> None:
    """Writes a file of the cache whole, in place of whatever is there, or nothing where that cannot be done."""
    _replace_quietly(path, _digest(path, data) + data)


def _digest(path: Path, data: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + data).digest()


def kept_json(path: Path | None, make: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
    """The JSON in `path` if it `fits`, else what `make` returns, which is then kept there, if there is a path."""
    entry = None if path is None else read_json(path, fits)
    if entry is None:
        entry = make()
        if path is not None:
            _replace_quietly(path, json.dumps(entry).encode())
    return entry


def read_json(path: Path, fits: Callable[[Any], bool]) -> Any:
    """The JSON in `path`; None if it is not there, damaged, or does not fit."""
    try:
        entry = json.loads(content(path))
        return entry if fits(entry) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _replace_quietly(path: Path, data: bytes) -> None:
    temporary = path.with_name(temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        remove(path, folders_only=True)
        temporary.replace(path)
    except OSError:
        pass
    finally:
        remove(temporary)


def remove(path: Path, folders_only: bool = False) -> None:
    """Removes a file or folder of the cache, where that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif not folders_only:
        with contextlib.suppress(OSError):
            path.unlink()
