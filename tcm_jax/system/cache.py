"""The user's cache folder."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tcm_jax`, by default `~/.cache/tcm_jax`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tcm_jax"


def write_quietly(path: Path, data: bytes) -> None:
    """Writes a file of the cache whole, or nothing where that cannot be done: a cache is never needed."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        temporary.write_bytes(data)
        temporary.replace(path)


def keep_compiled(compile_function: Callable[[bool], Any], version: str = "") -> Any:
    """What Numba compiles, `compile_function(True)`, kept in the user's cache folder where that can be written.

    Beside the source, where Numba keeps it by itself, pip would leave it behind: a package without modules. Numba
    compiles again when the function's own file has changed; `version` is what else it depends on.
    """
    from numba import config

    before = config.CACHE_DIR  # NUMBA_CACHE_DIR; other people's functions in this process go on as they were
    try:
        config.CACHE_DIR = str(Path(before or cache_folder() / "numba", version))
        return compile_function(True)
    except RuntimeError:
        return compile_function(False)
    finally:
        config.CACHE_DIR = before
