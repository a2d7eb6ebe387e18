"""How functions in machine code are called, and for which machine they are.

An object is one function, ENTRY, by C's convention.
"""

import ctypes
import functools
import operator
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np

ENTRY = "tcm_jax_entry"  # symbol of an object's function
RAISED = -(1 << 63)  # what it returns where the function raises


class Array(NamedTuple):
    """An argument: a C-contiguous array, in Numba's layout."""

    dtype: Any
    ndim: int
    readonly: bool = False

    @property
    def c_types(self) -> list[type]:
        """C types of reference count, owner, number of items, bytes of an item, address, shape and strides."""
        pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
        return [pointer, pointer, size, size, pointer, *[size] * 2 * self.ndim]

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
