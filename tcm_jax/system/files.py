"""Files that appear whole or not at all."""

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
from pathlib import Path

from tcm_jax.errors import TcmError
from tcm_jax.system.locks import make_lock
from tcm_jax.system.walk import DEVICE, special_kind

writing = make_lock()  # held while a file is written, so that a program that must end at once can wait for that
_OPEN_FILES = re.compile(r"/dev/fd|/proc/(\d+)(/task/\d+)?/fd")
_LINKS = 40  # as Linux follows
_NAME_BYTES = 100  # of a temporary name: with what is added to it, less than any file system's limit


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file under a temporary name in the same folder and renames it, so that no reader sees half of it.

    A file that was there keeps its mode. What is no regular file (a pipe, a device, an open file such as /dev/stdout)
    is written to and never replaced. Raises TcmError that names the file and the reason (no such folder, no permission,
    no space left).
    """
    try:
        number = descriptor(path)
        if number is not None:
            _write_to(number, data)
        elif is_special(path):
            with Path(path).open("wb") as file:
                file.write(data)
        else:
            with writing:
                _write_and_rename(Path(os.path.realpath(path)), data)
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise TcmError(f"cannot write {path}: {reason}") from error


def check_writable(path: str | os.PathLike, makes_folders: bool = False) -> None:
    """Raises TcmError for a file that cannot be written: before the work, not after it.

    Folders above it that are missing will be made if `makes_folders`.
    """
    if is_special(path):
        return
    try:
        reason = _refusal(Path(os.path.realpath(path)), makes_folders)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise TcmError(f"cannot write {path}: {reason}")


def _refusal(target: Path, makes_folders: bool) -> str | None:
    there = (above for above in target.parents if above.exists())  # none on a drive that Windows does not have
    folder = next(there, target.parent) if makes_folders else target.parent
    if target.is_dir():
        return "this is a folder"
    if not folder.is_dir():
        return "no such folder"
    return None if os.access(folder, os.W_OK) else "Permission denied"


def read_file(path: str | os.PathLike) -> bytes:
    """The bytes of a file or a pipe. Raises OSError, also for a device, which may never end."""
    refuse_device(Path(path).stat())
    return Path(path).read_bytes()


def refuse_device(status: os.stat_result) -> None:
    """Raises OSError for a device."""
    if special_kind(status.st_mode) == DEVICE:
        raise OSError(errno.ENODEV, f"this is {DEVICE}, and no file")


def descriptor(path: str | os.PathLike) -> int | None:
    """The number of this process's open file that `path` stands for (/dev/stdout, /dev/fd/3, a link to one), if any.

    Such a path must not be resolved: it would give the name of the file that standard output was redirected to, which
    others may be appending to.
    """
    link = Path(path)
    try:
        for _ in range(_LINKS):
            link = Path(os.path.realpath(link.parent)) / link.name
            at = _OPEN_FILES.fullmatch(str(link.parent))
            if at and link.name.isdecimal() and at[1] in (None, str(os.getpid())):
                return int(link.name)
            link = link.parent / link.readlink()
    except (OSError, ValueError):  # no link, or no path at all
        pass
    return None


def is_special(path: str | os.PathLike) -> bool:
    """Whether something is there that is neither a regular file nor a folder, or `path` stands for an open file."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return descriptor(path) is not None
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or descriptor(path) is not None


def temporary_name(name: str) -> str:
    """A hidden name that nobody has, for a file that will be called `name`."""
    # Limits count bytes. Half a character at the end is left out: some file systems take whole ones alone.
    shortened = os.fsencode(name)[:_NAME_BYTES].decode(sys.getfilesystemencoding(), "ignore")
    return f".{shortened}.{secrets.token_hex(4)}.tmp"


def _write_to(number: int, data: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # what was printed before comes before
    with os.fdopen(os.dup(number), "wb") as file:
        file.write(data)


def _write_and_rename(target: Path, data: bytes) -> None:
    temporary = target.with_name(temporary_name(target.name))
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _keep_mode(target, temporary)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _keep_mode(target: Path, temporary: Path) -> None:
    try:
        before = target.stat()
    except OSError:  # a new file
        return
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):  # only root may give files away
            os.chown(temporary, before.st_uid, before.st_gid)
    temporary.chmod(stat.S_IMODE(before.st_mode) & 0o777)
