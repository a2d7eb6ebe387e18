"""Functions that Numba compiles, kept as object code, which a process loads without Numba.

`compiler.py` makes an object. It is kept in the user's cache folder under a name that says what it depends on, the
processor's instructions among it.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from tcm_jax.errors import ConfigError
from tcm_jax.system.cache import cache_folder, read, write_quietly
from tcm_jax.system.locks import make_lock
from tcm_jax.system.machine_code import ENTRY, RAISED, target_machine

_loading = make_lock()
_engines: list[llvm.ExecutionEngine] = []  # whose memory holds the code, as long as the process lives


def callee(inline: str) -> Callable[[Callable], Callable]:
    """Decorator: a function that functions which `compiled` decorates call; `inline` as Numba's `njit` takes it."""

    def mark(function: Callable) -> Callable:
        function.inline = inline  # type: ignore[attr-defined]
        return function

    return mark


def compiled(*arguments: Any) -> Callable[[Callable], Any]:
    """Decorator: a function of Arrays and INTEGERs to int64, compiled and kept, and run without the interpreter's lock.

    It may not allocate memory. If it raises anything, that is a RuntimeError. It is loaded at the first call, or by
    `load()` of what is returned: most processes need few of the functions that they import.
    """

    def decorate(function: Callable) -> Any:
        @functools.cache
        def load() -> Callable:
            c_types = [c_type for argument in arguments for c_type in argument.c_types]
            c_function = ctypes.CFUNCTYPE(ctypes.c_int64, *c_types)
            return c_function(address(function.__module__, function.__name__, arguments))

        @functools.wraps(function)
        def call(*given: Any) -> int:
            if len(given) != len(arguments):
                raise TypeError(f"{function.__name__} takes {len(arguments)} arguments, not {len(given)}")
            words: list[Any] = []
            for argument, value in zip(arguments, given, strict=True):
                words += argument.words(value)
            result = load()(*words)
            if result == RAISED:
                raise RuntimeError(f"{function.__name__} failed")
            return result

        call.load = load  # type: ignore[attr-defined]
        return call

    return decorate


def address(module: str, name: str, arguments: tuple[Any, ...]) -> int:
    """Address of a function of a module, in machine code; Numba is imported only where none is kept."""
    with _loading:
        return _address(module, name, arguments)


@functools.cache
def _address(module: str, name: str, arguments: tuple[Any, ...]) -> int:
    folder, spec = cache_folder(), importlib.util.find_spec(module)
    path = None
    if folder and spec and spec.origin:
        path = folder / "objects" / f"{module}.{name}-{_version(Path(spec.origin).parent)}"
    code = path and read(path)
    if not code:
        code, needs_numba = _compiled(module, name, arguments)
        if path and not needs_numba:
            write_quietly(path, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(ENTRY)


def _compiled(module: str, name: str, arguments: tuple[Any, ...]) -> tuple[bytes, bool]:
    try:
        from tcm_jax.system.compiler import object_code

        return object_code(module, name, arguments)
    except Exception as error:  # Numba and LLVM each have their own
        settings = sorted(variable for variable in os.environ if variable.startswith("NUMBA_"))
        advice = f"unset {', '.join(settings)}" if settings else "install tcm_jax anew in an environment of its own"
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"Numba cannot compile {name} of {module}: {reason}; {advice}") from error


@functools.cache
def _version(folder: Path) -> str:
    """SHA-256, shortened, of what objects depend on: a folder's sources and ours, Numba and LLVM, the processor."""
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith("NUMBA_"))
    versions = importlib.metadata.version("numba"), importlib.metadata.version("llvmlite"), sys.version
    processor = llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    digest = hashlib.sha256(repr((settings, versions, processor)).encode())
    ours = (Path(__file__).with_name(f"{name}.py") for name in ("object_code", "compiler", "machine_code"))
    for path in (*ours, *sorted(folder.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
