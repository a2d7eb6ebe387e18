"""The list of failures that --manifest names: one JSON object a line, input and error."""

import json
import os
from typing import Any

from tcm_jax.cli import files, storage
from tcm_jax.cli.files import STANDARD, Job
from tcm_jax.errors import ConfigError, TcmError
from tcm_jax.system.files import descriptor, is_special

_START = b'{"input": '


def check(manifest: str, jobs: list[Job]) -> None:
    """Raises TcmError, before the work, for a list that would take another file's place or cannot be written.

    Where its own name was forgotten, --manifest takes that of the first picture.
    """
    used = {_place(job.target) for job in jobs} | {_place(job.source) for job in jobs if job.source != STANDARD}
    if _place(manifest) in used:
        raise ConfigError(f"{manifest} is an input or output of this command; give --manifest another name")
    if manifest == STANDARD or is_special(manifest):
        return
    if storage.is_file(manifest) and not _is_one(files.read(manifest, TcmError)):
        raise ConfigError(f"{manifest} exists and is no list of failures; give --manifest another name")
    files.check_place(manifest)


def is_standard_output(manifest: str | None) -> bool:
    """Whether the list goes where results are printed otherwise."""
    return manifest is not None and _place(manifest) == STANDARD


def write(manifest: str, failures: list[dict[str, Any]]) -> None:
    """Writes the list anew. Raises TcmError."""
    files.write(manifest, "".join(json.dumps(failure) + "\n" for failure in failures).encode(), makes_folders=False)


def _is_one(data: bytes) -> bool:
    return not data or data.startswith(_START)


def _place(path: str) -> str:
    """One name for one file."""
    path = storage.local(path)
    if path == STANDARD or descriptor(path) == 1:
        return STANDARD
    return path if storage.is_remote(path) else os.path.realpath(path)
