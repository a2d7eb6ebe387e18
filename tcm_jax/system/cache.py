"""The user's cache folder. Nothing in it is needed: what is not there, or is damaged, is made again.

Its files carry a checksum, so that one that is cut, empty or altered is not taken for what was written.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tcm_jax.system.files import temporary_name

_DIGEST = 32  # bytes, at the start of a file
_SEAL = "seal"  # the file of a folder that Numba fills, with the digests of the others
_COMPILING = threading.RLock()  # Numba's cache folder is a setting of the process


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
        data = path.read_bytes()
    except OSError:
        return None
    return data[_DIGEST:] if data[:_DIGEST] == _digest(path, data[_DIGEST:]) else None


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
        entry = json.loads(path.read_bytes())
        return entry if fits(entry) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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


def kept_njit(signature: Any) -> Callable[[Callable], Any]:
    """Decorator: Numba's `njit` without the interpreter's lock, for one signature, its result kept.

    Compiled, or read from the cache, at the first call, or by `compiled()` of what is returned: most processes need few
    of the functions that they import.
    """

    def decorate(function: Callable) -> Any:
        @functools.cache
        def compiled() -> Callable:
            from numba import njit

            with _COMPILING:
                return keep_compiled(function, lambda keep: njit(signature, cache=keep, nogil=True)(function))

        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            return compiled()(*arguments)

        call.compiled = compiled  # type: ignore[attr-defined]
        return call

    return decorate


def keep_compiled(function: Callable, compile_function: Callable[[bool], Any], version: str = "") -> Any:
    """What Numba makes of `function`, `compile_function(True)`, kept in the user's cache folder where that can be.

    Beside the source, where Numba keeps it by itself, pip would leave it behind: a package without modules. Numba
    compiles again when the function's own file has changed; `version` is what else it depends on. Numba believes
    whatever it finds, machine code included, and fails at an index that is cut. So every function has a folder with a
    seal, and a folder that is not as it was sealed is made anew.
    """
    from numba import config

    before = config.CACHE_DIR  # NUMBA_CACHE_DIR; other people's functions in this process go on as they were
    root = Path(before) if before else cache_folder()
    if root is None:
        return compile_function(False)
    folder = root / ("" if before else "numba") / version / f"{function.__module__}.{function.__name__}"
    sealed = _sealed(folder)
    used = folder if sealed else folder.with_name(temporary_name(folder.name))
    try:
        used.mkdir(parents=True, exist_ok=True)
        if not os.access(used, os.W_OK):  # Numba would look for another place, such as the sources
            raise PermissionError(used)
        config.CACHE_DIR = str(used)
        compiled = compile_function(True)
        if (made := _digests(used)) != sealed:
            write_quietly(used / _SEAL, json.dumps(made).encode())
        if used is not folder:
            remove(folder)
            used.rename(folder)
        return compiled
    except Exception:  # of many kinds: no place, no permission, a full disk, what vanished meanwhile
        remove(used)
        return compile_function(False)
    finally:
        config.CACHE_DIR = before
        if used is not folder:
            remove(used)


def _sealed(folder: Path) -> dict[str, str] | None:
    """The digests of a folder's files, if they are those that its seal names."""
    seal = read(folder / _SEAL)
    try:
        found = _digests(folder)
        return found if seal is not None and json.loads(seal) == found else None
    except (OSError, ValueError):
        return None


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.name != _SEAL and not path.is_dir())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
