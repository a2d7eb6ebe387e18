"""Files that appear whole or not at all."""

import contextlib
import os
import secrets
import stat
import threading
from pathlib import Path

from tcm_jax.errors import TcmError

writing = threading.RLock()  # held while a file is written, so that a program that must end at once can wait for that


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file under a temporary name in the same folder and renames it, so that no reader sees half of it.

    Raises TcmError that names the file and the reason (no such folder, no permission, no space left).
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not stat.S_ISREG(target.stat().st_mode) and not target.is_dir():
        write = _write_through  # A pipe or a device such as /dev/stdout must not be replaced by a file.
    else:
        write = _write_and_rename
    try:
        with writing:
            write(target, data)
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise TcmError(f"cannot write {path}: {reason}") from error


def _write_through(target: Path, data: bytes) -> None:
    with target.open("wb") as file:
        file.write(data)


def _write_and_rename(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
