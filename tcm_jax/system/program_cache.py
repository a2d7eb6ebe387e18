"""Where compiled programs are kept between processes, and what they depend on."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tcm_jax.system.cache import cache_folder, content, read, remove, write_quietly

_tuned: list[bool] = []  # one entry once JAX's cache is ours to set
_set: list[bool] = []  # one entry once it is set


def keep_compiled_programs() -> None:
    """Switches JAX's cache on for the whole process, in the user's cache folder; JAX_COMPILATION_CACHE_DIR overrules.

    Not on JAX 0.5: its kept programs corrupt donated buffers (NaNs when training was resumed on 0.5.3). Where JAX is
    not imported yet, `set_up_jax` is to be called once it is.
    """
    if _version_of_jax() < (0, 6):
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and _usable_folder() is None:
        return
    _tuned.append(True)
    if "jax" in sys.modules:
        set_up_jax()


def set_up_jax() -> None:
    """Switches JAX's cache on if that was asked for, and once."""
    if not _tuned or _set:
        return
    import jax

    _set.append(True)
    settings: Any = jax.config  # its types name no setting
    if settings.jax_compilation_cache_dir not in (None, os.environ.get("JAX_COMPILATION_CACHE_DIR")):
        _tuned.clear()  # a host has named a folder of its own
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = _usable_folder()
        if folder is None:
            return
        try:
            _remove_damaged(folder)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def folder_of_programs() -> Path | None:
    """Where programs that XLA compiled are kept for the next process; None where they are not.

    In a host program whose JAX has a cache of its own they are that cache's: what comes out of it cannot be kept again,
    and to keep them from it is to switch it off for the whole process, which is the host's.
    """
    jax_cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if "jax" in sys.modules:
        import jax

        settings: Any = jax.config  # its types name no setting
        jax_cache = settings.jax_compilation_cache_dir
    if _version_of_jax() < (0, 6, 2):  # they cannot load a program for one device of several
        return None
    if jax_cache and not _tuned:
        return None
    if jax_cache:
        return Path(jax_cache) / "programs"
    cache = cache_folder()
    return cache and cache / "jax" / "programs"


@functools.cache
def _version_of_jax() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", importlib.metadata.version("jax"))[:3])


def _usable_folder() -> Path | None:
    """Where JAX may keep what it compiles; None if there is no such place."""
    cache = cache_folder()
    if cache is None:
        return None
    try:
        (cache / "jax").mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return cache / "jax"


def _remove_damaged(folder: Path) -> None:
    """Clears JAX's own cache of damaged files: JAX would warn of one in every process, and not write it again.

    What was found sound before is not read again, unless its size or time has changed.
    """
    from jax._src import compilation_cache  # only JAX knows how it compresses

    listing = folder / "sound"
    before = json.loads(read(listing) or "{}")
    sound = {}
    for path in folder.glob("*-cache"):
        about = path.stat()
        found = sound[path.name] = [about.st_size, about.st_mtime_ns]
        if before.get(path.name) != found:
            try:
                compilation_cache.decompress_executable(content(path))
            except Exception:  # of zlib, of Zstandard
                remove(path)
                del sound[path.name]
    if sound != before:
        write_quietly(listing, json.dumps(sound).encode())


def kept(name: str, by_xla: bool = False) -> Path | None:
    """Where something that depends on this source may be kept for the next process, if anything is.

    What is made `by_xla` may have to be left to JAX's cache (`folder_of_programs`).
    """
    cache = cache_folder()
    folder = folder_of_programs() if by_xla else cache and cache / "programs"
    return folder and folder / hashlib.sha256(f"{_surroundings()} {name}".encode()).hexdigest()


@functools.cache
def _surroundings() -> str:
    """What else a compiled program depends on: JAX, XLA and its flags, the processor, and our own source."""
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        source.update(path.read_bytes())
    flags, versions = os.environ.get("XLA_FLAGS", ""), [importlib.metadata.version(name) for name in ("jax", "jaxlib")]
    return f"{versions} {flags} {_processor()} {source.hexdigest()}"


def _processor() -> str:
    """The instructions that compiled programs may use: the folder may be shared by different machines."""
    try:
        if sys.platform == "darwin":  # Python says "arm" of every one
            sysctl = ["sysctl", "-n", "machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
            return subprocess.run(sysctl, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8").stdout
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"
