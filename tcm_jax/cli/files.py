"""Which files a command reads and writes."""

import dataclasses
import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tcm_jax.errors import TcmError

STANDARD = "-"


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to read and one to write; "-" is standard input or output."""

    source: str
    target: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The files of a command; `many` if they were not named one by one, or are several."""

    jobs: list[Job]
    skipped: int  # of many, those whose output exists
    many: bool


def plan(inputs: list[str], output: str | None, overwrite: bool, suffixes: frozenset[str], new_suffix: str) -> Plan:
    """What to read and where to write it.

    Folders are searched for files with one of `suffixes`; below an output folder they keep their structure. Raises
    TcmError for inputs that do not exist, for one output of several files and for a single output that exists.
    """
    found = [(source, relative) for argument in inputs for source, relative in expand(argument, suffixes)]
    many = len(found) > 1 or any(Path(argument).is_dir() for argument in inputs)
    into_folder = (
        output is not None and output != STANDARD and (many or output.endswith(os.sep) or Path(output).is_dir())
    )
    if many and output is not None and (output == STANDARD or Path(output).is_file()):
        raise TcmError(f"{len(found)} files cannot all be written to {output}; give -o a folder")
    jobs = []
    for source, relative in found:
        if into_folder:
            target = str(Path(output or "") / relative.with_suffix(new_suffix))
        elif output is None:
            target = STANDARD if source == STANDARD else str(Path(source).with_suffix(new_suffix))
        else:
            target = output
        jobs.append(Job(source, target))
    if not many:
        for job in jobs:
            free(Path(job.target), overwrite or job.target == STANDARD)
        return Plan(jobs, 0, many)
    left = [job for job in jobs if overwrite or not Path(job.target).exists()]
    return Plan(left, len(jobs) - len(left), many)


def clashes(jobs: list[Job]) -> dict[str, list[Job]]:
    """Outputs that several inputs would be written to (photo.png and photo.jpg)."""
    by_target: dict[str, list[Job]] = {}
    for job in jobs:
        by_target.setdefault(os.path.normpath(job.target), []).append(job)
    return {target: same for target, same in by_target.items() if len(same) > 1}


def expand(argument: str, suffixes: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """(file, its path below the folder or pattern that named it) for a file, a folder, a pattern or "-"."""
    path = Path(argument)
    if argument == STANDARD:
        yield STANDARD, Path("stdin")
    elif path.is_dir():
        files = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        wanted = [file for file in files if file.suffix.lower() in suffixes and not file.name.startswith(".")]
        if not wanted:
            raise TcmError(f"{path} holds no files to work on ({', '.join(sorted(suffixes))})")
        yield from ((str(file), file.relative_to(path)) for file in wanted)
    elif glob.has_magic(argument) and not path.exists():
        names = glob.glob(argument, recursive=True)  # noqa: PTH207 (Path.glob wants the folder apart)
        files = sorted(Path(name) for name in names if Path(name).is_file())
        if not files:
            raise TcmError(f"no file matches {argument}")
        fixed = list(path.parts[:-1])
        while any(glob.has_magic(part) for part in fixed):
            fixed.pop()
        yield from ((str(file), file.relative_to(Path(*fixed))) for file in files)
    else:
        yield argument, Path(path.name)


def free(output: Path, overwrite: bool) -> Path:
    """`output`, if it may be written; asked before the work, not after it."""
    if output.is_file() and not overwrite:
        raise TcmError(f"{output} exists; give another name, or --overwrite to replace it")
    return output


def read(source: str, error: type[TcmError]) -> bytes:
    """The bytes of a file or of standard input; raises `error`."""
    try:
        return sys.stdin.buffer.read() if source == STANDARD else Path(source).read_bytes()
    except OSError as problem:
        raise error(f"cannot read {source}: {problem.strerror or problem}") from problem


def write(target: str, data: bytes, many: bool) -> None:
    """Writes a file completely or not at all, of many with its folder; or to standard output."""
    from tcm_jax.image import atomic_write

    if target == STANDARD:
        sys.stdout.buffer.write(data)
        return
    if many:
        try:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TcmError(f"cannot make the folder {Path(target).parent}: {error.strerror or error}") from error
    atomic_write(target, data)
