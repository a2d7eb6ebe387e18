"""Where files are: folders of this machine, or what fsspec reaches (s3://, gs://, memory:// ...), by one set of names.

A path with "://" is a URL of fsspec. Its file systems raise errors of their own kinds; here they become TcmErrors.
"""

import contextlib
import dataclasses
import glob
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from tcm_jax.errors import ConfigError, MissingExtraError, TcmError
from tcm_jax.system.files import temporary_name
from tcm_jax.system.walk import is_hidden, special_kind, walk

# A file put here appears whole or not at all. Elsewhere it is put under a temporary name, then moved.
ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "memory"})


@dataclasses.dataclass(frozen=True)
class Found:
    """What an argument stands for: (file, its path below the folder or pattern that named it), in order.

    `special` has (path, what it is) of what is no file, `unreadable` (path, why) of folders that cannot be listed.
    """

    files: list[tuple[str, PurePath]]
    special: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    unreadable: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def is_remote(path: str) -> bool:
    """Whether `path` is a URL, for fsspec to reach."""
    return "://" in path


def local(path: str) -> str:
    """`path` without file://."""
    return path.removeprefix("file://")


def absolute(path: str) -> str:
    """`path` as other processes understand it."""
    return path if is_remote(path) else str(Path.cwd() / path)


def is_named_folder(path: str) -> bool:
    """Whether there is a folder at `path`, or its last character says that there will be."""
    return path.endswith(("/", os.sep)) or is_folder(path)


def join(folder: str, relative: PurePath) -> str:
    """Path of a file below a folder."""
    return f"{folder.rstrip('/')}/{relative.as_posix()}" if is_remote(folder) else str(Path(folder) / relative)


def with_suffix(path: str, suffix: str) -> str:
    """`path` with another ending."""
    if not is_remote(path):
        return str(Path(path).with_suffix(suffix))
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{PurePosixPath(name).with_suffix(suffix)}"


def is_folder(path: str) -> bool:
    """Whether there is a folder at `path`, or a URL means one by the slash at its end."""
    if not is_remote(path):
        return stat.S_ISDIR(_mode(path))
    with _reached(path, "look at") as (system, name):
        return path.endswith("/") or system.isdir(name)


def is_file(path: str) -> bool:
    """Whether there is a file at `path`."""
    if not is_remote(path):
        return stat.S_ISREG(_mode(path))
    with _reached(path, "look at") as (system, name):
        return system.isfile(name)


def existing(paths: list[str]) -> set[str]:
    """Those of `paths` that exist and are no folders.

    Of a bucket every folder is listed once, as asking for each file takes too long.
    """
    found = {path for path in paths if not is_remote(path) and (mode := _mode(path)) and not stat.S_ISDIR(mode)}
    remote = sorted((path for path in paths if is_remote(path)), key=_parent)
    for folder, group in itertools.groupby(remote, key=_parent):
        with _reached(folder, "list") as (system, name):
            try:
                entries = system.ls(name, detail=True)
            except FileNotFoundError:
                continue
        names = {PurePosixPath(entry["name"]).name for entry in entries if entry["type"] != "directory"}
        found |= {path for path in group if path.rpartition("/")[2] in names}
    return found


def files_below(folder: str, suffixes: frozenset[str]) -> Found:
    """The files below a folder that have one of `suffixes`, as `system.walk` finds them."""
    if is_remote(folder):
        with _reached(folder, "list") as (system, root):
            below = [PurePosixPath(name).relative_to(root) for name in sorted(system.find(root))]
        wanted = [path for path in below if path.suffix.lower() in suffixes and not is_hidden(path)]
        return Found([(join(folder, path), path) for path in wanted])
    walked = walk(Path(folder), suffixes)
    files: list[tuple[str, PurePath]] = [(str(file), file.relative_to(folder)) for file in walked.files]
    return Found(files, walked.special, walked.unreadable)


def special(path: str) -> str | None:
    """What is there if it is neither file nor folder, such as "a FIFO"; pipes that a shell hands over are files."""
    if is_remote(path) or path.startswith(("/dev/", "/proc/")):
        return None
    return special_kind(_mode(path))


def _mode(path: str | Path) -> int:
    """The `st_mode` of a local path, 0 where it cannot be had: to read or to write it says why."""
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):
        return 0


def matching(pattern: str) -> Found:
    """What a pattern names; paths are below its folders that have no wildcard."""
    if not is_remote(pattern):
        pattern = pattern.replace(os.sep, "/")  # which Windows takes, too
    folders = pattern.split("/")[:-1]
    fixed = "".join(f"{part}/" for part in itertools.takewhile(lambda part: not glob.has_magic(part), folders))
    if is_remote(pattern):
        with _reached(pattern, "list") as (system, name):
            found = sorted(file for file, about in system.glob(name, detail=True).items() if about["type"] == "file")
            below = [PurePosixPath(file).relative_to(system._strip_protocol(fixed)) for file in found]
        below = [path for path in below if "/." in pattern or not is_hidden(path)]  # as a shell does
        return Found([(join(fixed, path), path) for path in below])
    names = _without_loops(glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob wants the folder apart)
    root = Path(fixed)
    modes = {name: _mode(name) for name in names}
    files: list[tuple[str, PurePath]] = [
        (str(name), name.relative_to(root))
        for name, mode in modes.items()
        if not mode or stat.S_ISREG(mode)  # links that lead nowhere, too: to read them says so
    ]
    kinds = [(str(name), kind) for name, mode in modes.items() if (kind := special_kind(mode))]
    return Found(files, kinds, _unreadable_folders(pattern))


def _unreadable_folders(pattern: str) -> list[tuple[str, str]]:
    """(folder, why) of those that a pattern leads into and that cannot be read, over which `glob` says nothing."""
    parts, found = pattern.split("/"), {}
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    for i, part in enumerate(parts[first:], first):
        top = "/".join(parts[:i]) + "/" * (i > 0)
        for folder in _without_loops(glob.glob(top, recursive=True) if top else ["."]):  # noqa: PTH207
            try:
                os.scandir(folder).close() if glob.has_magic(part) else os.stat(f"{folder}/.")  # noqa: PTH116
            except OSError as error:
                found[str(folder)] = error.strerror or str(error)
    return list(found.items())


def _without_loops(names: list[str]) -> list[Path]:
    """The files sorted, each by one name: without a link to a folder on the way if there is one, else the shortest."""
    places: dict[Path, Path] = {}
    paths = {Path(name): Path(name).parent.resolve() / Path(name).name for name in names}

    def rank(path: Path) -> tuple[bool, int, Path]:
        return paths[path].parent != path.parent.absolute(), len(path.parts), path

    for path in sorted(paths, key=rank):
        places.setdefault(paths[path], path)
    return sorted(places.values())


def read(url: str, error: type[TcmError]) -> bytes:
    """The bytes of a remote file; raises `error`."""
    with _reached(url, "read", error) as (system, name):
        return system.cat_file(name)


def write(url: str, data: bytes) -> None:
    """Writes a remote file completely or not at all, with its folders. Raises TcmError."""
    with _reached(url, "write") as (system, name):
        if url.partition("://")[0] in ATOMIC:
            system.pipe_file(name, data)
            return
        system.makedirs(_parent(name), exist_ok=True)
        temporary = f"{_parent(name)}/{temporary_name(PurePosixPath(name).name)}"
        try:
            system.pipe_file(temporary, data)
            system.mv(temporary, name)
        except BaseException:
            with contextlib.suppress(Exception):
                system.rm_file(temporary)
            raise


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


@contextlib.contextmanager
def _reached(url: str, doing: str, kind: type[TcmError] = TcmError) -> Iterator[tuple[Any, str]]:
    """(file system, the file's name on it); what goes wrong inside is one sentence of `kind`."""
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0]
    try:
        system, name = url_to_fs(url)
    except ImportError as error:
        package = getattr(error.__cause__, "name", None)
        hint = f"pip install {package}" if package else str(error)
        raise MissingExtraError(f"{scheme}:// needs a package that is not installed: {hint}") from error
    except ValueError as error:
        raise ConfigError(f"{url} is no place that can be reached: {error}") from error
    except Exception as error:
        raise kind(f"cannot {doing} {url}: {_reason(error)}") from error
    try:
        yield system, name
    except Exception as error:
        raise kind(f"cannot {doing} {url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return next(iter(str(error).splitlines()), "") or type(error).__name__
