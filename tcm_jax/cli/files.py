"""Which files a command reads and writes."""

import contextlib
import dataclasses
import glob
import io
import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from tcm_jax.cli import storage
from tcm_jax.errors import ConfigError, TcmError
from tcm_jax.system import signals
from tcm_jax.system.files import atomic_write, check_writable, descriptor, is_special, read_file, refuse_device
from tcm_jax.system.names import file_name

STANDARD = "-"


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to read and one to write; "-" is standard input or output."""

    source: str
    target: str

    @property
    def in_place(self) -> bool:
        """Whether the output would take the input's place: the input is not of the kind that the command takes."""
        return self.target != STANDARD and PurePath(self.source) == PurePath(self.target)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The files of a command; `many` if they were not named one by one, or are several."""

    jobs: list[Job]
    skipped: int  # of many, those whose output exists
    many: bool
    into_folder: bool = False  # the output is a folder, which is made with those below it
    special: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # (path, what it is) of what is no file
    unreadable: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # (folder, why)


def plan(inputs: list[str], output: str | None, overwrite: bool, suffixes: frozenset[str], new_suffix: str) -> Plan:
    """What to read and where to write it.

    Folders are searched for files with one of `suffixes`; below an output folder they keep their structure. Raises
    TcmError for names that are empty, for inputs that do not exist, for one output of several files and for a single
    output that exists.
    """
    if output is not None:
        file_name(output)
    inputs = [STANDARD if descriptor(path) == 0 else path for path in map(storage.local, inputs)]
    everything = expand(inputs, suffixes)
    found = everything.files
    output = output and (STANDARD if descriptor(storage.local(output)) == 1 else storage.local(output))
    many = len(found) + len(everything.special) + len(everything.unreadable) > 1 or any(map(storage.is_folder, inputs))
    into_folder = output not in (None, STANDARD) and (many or storage.is_named_folder(output))
    if many and output is not None and (output == STANDARD or storage.is_file(output) or is_special(output)):
        raise TcmError(f"{len(found)} files cannot all be written to {output}; give -o a folder")
    jobs = []
    for source, relative in found:
        if into_folder:
            target = storage.join(output or "", relative.with_suffix(new_suffix))
        elif output is None:
            target = _beside(source, new_suffix)
        else:
            target = output
        jobs.append(Job(source, target))
    finished: set[str] = set()
    if not overwrite and many:
        finished = storage.existing([job.target for job in jobs])
    elif not overwrite:
        for job in jobs:
            if not job.in_place:  # what such a file is comes first
                check_absent(job.target)
    left = [job for job in jobs if job.target not in finished or job.in_place]
    return Plan(left, len(jobs) - len(left), many, into_folder, everything.special, everything.unreadable)


def check_folder(output: str, endings: frozenset[str]) -> None:
    """Raises ConfigError if a new folder for many files would be called as one file is, such as all.tcm."""
    if PurePath(output).suffix.lower() in endings and not storage.is_named_folder(storage.local(output)):
        raise ConfigError(f"{output} is the name of one file; give -o a folder")


def _beside(source: str, new_suffix: str) -> str:
    if source == STANDARD:
        return STANDARD
    if not storage.is_remote(source) and descriptor(source) is not None:
        raise ConfigError(f"{source} has no place beside it; give -o a file, or - for standard output")
    return storage.with_suffix(source, new_suffix)


def clashes(jobs: list[Job]) -> dict[str, list[Job]]:
    """Outputs that several inputs would be written to (photo.png and photo.jpg)."""
    by_target: dict[str, list[Job]] = {}
    for job in jobs:
        target = job.target if storage.is_remote(job.target) else os.path.normpath(job.target)
        by_target.setdefault(target, []).append(job)
    return {target: same for target, same in by_target.items() if len(same) > 1}


def expand(arguments: list[str], suffixes: frozenset[str]) -> storage.Found:
    """What files, folders, patterns and "-" stand for. Raises TcmError for one that stands for nothing.

    Of several arguments a FIFO is not waited for: a shell's pattern may have named it.
    """
    found = storage.Found([])
    for argument in map(storage.local, map(file_name, arguments)):
        kind = storage.special(argument) if len(arguments) > 1 else None
        one = storage.Found([], [(argument, kind)]) if kind else _expand(argument, suffixes, len(arguments) == 1)
        found.files.extend(one.files)
        found.special.extend(one.special)
        found.unreadable.extend(one.unreadable)
    return found


def _expand(argument: str, suffixes: frozenset[str], alone: bool) -> storage.Found:
    if argument == STANDARD:
        return storage.Found([(STANDARD, PurePath("stdin"))])
    if storage.is_folder(argument):
        found = storage.files_below(argument, suffixes)
        nothing = f"{argument} holds no files to work on ({', '.join(sorted(suffixes))})"
    elif glob.has_magic(argument) and not (os.path.lexists(argument) or storage.is_file(argument)):
        found = storage.matching(argument)
        nothing = f"no file matches {argument}"
    else:
        return storage.Found([(argument, PurePath(PurePath(argument).name))])
    if alone and found.unreadable and not found.files:
        raise TcmError("cannot read {}: {}".format(*found.unreadable[0]))
    if not found.files and not found.special and not found.unreadable:
        raise TcmError(nothing)
    return found


@contextlib.contextmanager
def named(source: str) -> Iterator[None]:
    """Puts the name of the file before what a TcmError that is raised inside says."""
    try:
        yield
    except TcmError as error:
        raise type(error)(f"{shown(source)}: {error}") from error


def shown(source: str) -> str:
    """The name of an input as people read it."""
    return "standard input" if source == STANDARD else source


def check_absent(output: str) -> None:
    """Raises TcmError if the file exists."""
    if output != STANDARD and storage.is_file(output) and not is_special(output):
        raise TcmError(f"{output} exists; give another name, or --overwrite to replace it")


def check_place(output: str, makes_folders: bool = False) -> None:
    """Raises TcmError for a file that cannot be written, as far as that can be seen before the work."""
    if output != STANDARD and not storage.is_remote(output):
        check_writable(output, makes_folders)


def read(source: str, error: type[TcmError]) -> bytes:
    """The bytes of a file or of standard input; raises `error`."""
    if storage.is_remote(source):
        return storage.read(source, error)
    try:
        return _read_standard() if source == STANDARD else read_file(source)
    except OSError as problem:
        raise error(f"cannot read {shown(source)}: {problem.strerror or problem}") from problem


def _read_standard() -> bytes:
    stream = signals.standard("stdin")
    with contextlib.suppress(io.UnsupportedOperation):  # of a stream in memory
        if not stream.isatty():
            refuse_device(os.fstat(stream.fileno()))
    return stream.read()


def write(target: str, data: bytes, makes_folders: bool) -> None:
    """Writes a file completely or not at all, or to standard output; with its folder if `makes_folders`."""
    if target == STANDARD:
        _write_standard(data)
        return
    if storage.is_remote(target):
        storage.write(target, data)
        return
    if makes_folders:
        try:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TcmError(f"cannot make the folder {Path(target).parent}: {error.strerror or error}") from error
    atomic_write(target, data)


def _write_standard(data: bytes) -> None:
    out = signals.standard("stdout")
    try:
        out.write(data)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TcmError(f"cannot write to standard output: {error.strerror or error}") from error
