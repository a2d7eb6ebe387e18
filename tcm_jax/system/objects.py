"""Functions that Numba compiles, kept as object code, which a process loads without Numba.

An object is one function, ENTRY, by the calling convention of the machine; `compiler.py` makes it. It is kept in the
user's cache folder under a name that says what it depends on, a processor's instructions among it.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import operator
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np

from tcm_jax.system.cache import cache_folder, read, write_quietly

ENTRY = "tcm_jax_entry"  # symbol of an object's function
_loading = threading.RLock()
_engines: list[llvm.ExecutionEngine] = []  # whose memory holds the code, as long as the process lives


class Array(NamedTuple):
    """An argument: a C-contiguous array, in Numba's layout."""

    dtype: Any
    ndim: int
    readonly: bool = False

    @property
    def c_types(self) -> list[type]:
        """Reference count, owner, items, bytes of an item, address, shape, strides."""
        return [ctypes.c_void_p] * 2 + [ctypes.c_ssize_t] * 2 + [ctypes.c_void_p] + [ctypes.c_ssize_t] * 2 * self.ndim

    def words(self, array: Any) -> list[int | None]:
        """What C gets of an array; raises TypeError for one of another kind."""
        flags = array.flags if isinstance(array, np.ndarray) else None
        if (
            flags is None
            or (array.dtype, array.ndim) != (np.dtype(self.dtype), self.ndim)
            or not (flags.c_contiguous and flags.aligned and (flags.writeable or self.readonly))
        ):
            raise TypeError(f"{self} is asked for, not {_described(array)}")
        address = array.__array_interface__["data"][0]
        return [None, None, array.size, array.itemsize, address, *array.shape, *array.strides]


class _Integer:
    """An argument: an int64."""

    c_types = (ctypes.c_int64,)

    @staticmethod
    def words(number: Any) -> list[int]:
        return [operator.index(number)]


INTEGER = _Integer()


def _described(argument: Any) -> str:
    if not isinstance(argument, np.ndarray):
        return type(argument).__name__
    flags = argument.flags
    return f"{argument.dtype} {argument.shape}, contiguous: {flags.c_contiguous}, writable: {flags.writeable}"


def part(inline: str) -> Callable[[Callable], Callable]:
    """Decorator: a function for those that `kept` decorates in the same module; `inline` as Numba's `njit` takes it."""

    def mark(function: Callable) -> Callable:
        function.inline = inline  # type: ignore[attr-defined]
        return function

    return mark


def kept(*arguments: Any) -> Callable[[Callable], Any]:
    """Decorator: a function of Arrays and INTEGERs to int64, compiled and kept, and run without the interpreter's lock.

    It may neither raise nor allocate memory. It is loaded at the first call, or by `compiled()` of what is returned:
    most processes need few of the functions that they import.
    """

    def decorate(function: Callable) -> Any:
        @functools.cache
        def compiled() -> Callable:
            c_types = [c_type for argument in arguments for c_type in argument.c_types]
            return ctypes.CFUNCTYPE(ctypes.c_int64, *c_types)(address(function.__module__, function.__name__, arguments))

        @functools.wraps(function)
        def call(*given: Any) -> int:
            if len(given) != len(arguments):
                raise TypeError(f"{function.__name__} takes {len(arguments)} arguments, not {len(given)}")
            words: list[Any] = []
            for argument, value in zip(arguments, given, strict=True):
                words += argument.words(value)
            return compiled()(*words)

        call.compiled = compiled  # type: ignore[attr-defined]
        return call

    return decorate


def address(module: str, name: str, arguments: tuple[Any, ...]) -> int:
    """Address of a function of a module, in machine code; Numba is imported only where none is kept."""
    with _loading:
        return _address(module, name, arguments)


@functools.cache
def _address(module: str, name: str, arguments: tuple[Any, ...]) -> int:
    folder = cache_folder()
    path = folder and folder / "objects" / f"{module}.{name}-{_version(module.rpartition('.')[0])}"
    code = path and read(path)
    if not code:
        from tcm_jax.system.compiler import object_code

        code, needs_numba = object_code(module, name, arguments)
        if path and not needs_numba:
            write_quietly(path, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(ENTRY)


@functools.cache
def target_machine() -> llvm.TargetMachine:
    """This machine, with the options that Numba has for it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    features = llvm.get_host_cpu_features().flatten()
    reloc = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(
        llvm.get_host_cpu_name(), features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
    )


@functools.cache
def _version(package: str) -> str:
    """SHA-256, shortened, of what objects depend on: a package's sources and ours, Numba and LLVM, the processor."""
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith("NUMBA_"))
    features = llvm.get_host_cpu_features().flatten()
    versions = importlib.metadata.version("numba"), importlib.metadata.version("llvmlite"), sys.version
    surroundings = versions, llvm.get_process_triple(), llvm.get_host_cpu_name(), features, settings
    digest = hashlib.sha256(repr(surroundings).encode())
    folder = Path(__file__).parent
    package_folder = Path(sys.modules[package].__path__[0])
    for path in (folder / "objects.py", folder / "compiler.py", *sorted(package_folder.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
