"""Object code of functions, by Numba: imported where an object is not kept yet (`object_code.py`)."""

import importlib
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
from numba import config, njit, types

from tcm_jax.system.machine_code import ENTRY, RAISED, Array, target_machine

# No wrappers, as only C and each other call them; no reference counts and no exceptions, which need Numba's library.
_OPTIONS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy", "_nrt": False}
# What every process has. Others are Numba's, and there where it has been imported.
_EVERYWHERE = {"free", "malloc", "memcpy", "memset", "sqrt", "sqrtf", "tcm_jax_functions"}


def object_code(module: str, name: str, arguments: tuple[Any, ...]) -> tuple[bytes, bool]:
    """(object code of a function of a module, whether it needs something that a process without Numba lacks)."""
    settings: Any = config  # its types name no setting
    disabled, settings.DISABLE_JIT = settings.DISABLE_JIT, 0
    try:
        names = _namespace(module)
        signature = types.int64(*(_numba_type(argument) for argument in arguments))
        compiled = njit(signature, **_OPTIONS)(_among(names, inspect.unwrap(names[name])))
    finally:
        settings.DISABLE_JIT = disabled
    code = _with_entry(compiled.inspect_llvm(signature.args), arguments)
    values = (*code.functions, *code.global_variables)
    missing = {value.name for value in values if value.is_declaration and not value.name.startswith("llvm.")}
    return target_machine().emit_object(code), not missing <= _EVERYWHERE


def _namespace(module: str) -> dict[str, Any]:
    """A module's names, where callees, from the modules that it imports them from, are Numba's functions."""
    names = dict(vars(importlib.import_module(module)))
    for key, value in list(names.items()):
        if isinstance(value, FunctionType) and hasattr(value, "inline"):
            if value.__module__ == module:
                names[key] = njit(inline=value.inline, **_OPTIONS)(_among(names, value))
            else:
                names[key] = _namespace(value.__module__)[value.__name__]
    return names


def _among(names: dict[str, Any], function: Callable) -> FunctionType:
    """A copy of the function, with `names` as its globals."""
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__)


def _numba_type(argument: Any) -> types.Type:
    if not isinstance(argument, Array):
        return types.int64
    return types.Array(getattr(types, argument.dtype.__name__), argument.ndim, "C", readonly=argument.readonly)


def _with_entry(text: str, arguments: tuple[Any, ...]) -> llvm.ModuleRef:
    """A module of one function by Numba's convention, with ENTRY, which calls it by C's.

    Numba's functions return a status, and take where to put the result and what they raise.
    """
    (function,) = (
        function
        for function in llvm.parse_assembly(text).functions
        if not function.is_declaration and function.linkage == llvm.Linkage.external
    )
    result, error, *words = (str(argument.type) for argument in function.arguments)
    if len(words) != sum(len(argument.c_types) for argument in arguments):
        raise RuntimeError(f"Numba passes arguments as {words}")
    parameters = ", ".join(f"{word} %a{i}" for i, word in enumerate(words))
    pointed_to = error.removesuffix("*") if error.endswith("*") else "i64"  # LLVM 15 has one type for all pointers
    return llvm.parse_assembly(f"""{text}
define i64 @{ENTRY}({parameters}) {{
  %result = alloca i64
  %error = alloca {pointed_to}
  %status = call i32 @"{function.name}"({result} %result, {error} %error, {parameters})
  %value = load i64, {result} %result
  %good = icmp eq i32 %status, 0
  %answer = select i1 %good, i64 %value, i64 {RAISED}
  ret i64 %answer
}}""")
