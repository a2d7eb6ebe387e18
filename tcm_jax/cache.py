"""The user's cache folder."""

import contextlib
import os
import secrets
from pathlib import Path


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
