"""The kernels as XLA's custom calls: compiled by Numba, kept in the user's cache folder.

A kernel is one C function (call frame, part, scratch memory): it does one part of a call's work. One handler serves all
of them. It finds the kernel, and into how many parts the call is divided, in the call's attributes.
"""

import ctypes
import functools
import hashlib
from pathlib import Path

import jax
import llvmlite.binding as llvm
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from tcm_jax.ops.kernels import dense, functions, pool, strided, swin, winograd, xla
from tcm_jax.ops.kernels.emit import WORD, function, load
from tcm_jax.system.cache import keep_compiled

KERNELS = {
    "winograd_kernel": winograd.transform_kernel,  # what `prepare` says stands before the kernel that wants it
    "winograd": winograd.convolve,
    "strided": strided.convolve,
    "product": dense.product,
    "gdn": dense.gdn,
    "pointwise": functions.apply,
    "swin": swin.block,
}
NUMBERS = {name: number for number, name in enumerate(KERNELS, 1)}  # places in the table of functions, after `task`
_TABLE = "tcm_jax_functions"  # symbol of the table of the addresses of C functions
_KERNEL, _PARTS, _PREPARE, _SCRATCH = range(len(xla.COMMON_ATTRIBUTES))


@functools.cache
def _version() -> str:
    """SHA-256 of this package's sources, shortened."""
    sources = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


def _compiled(signature, python_function):
    return keep_compiled(python_function, lambda keep: cfunc(signature, cache=keep)(python_function), _version())


@intrinsic
def _table(_):
    """Address of the table of functions, which `register` has made known to LLVM."""

    def emit(context, builder, signature, arguments):
        return builder.ptrtoint(function(builder, _TABLE, ir.VoidType()), WORD)

    return types.int64(), emit


def _handler(frame):
    if not xla.asked_for_version(frame):
        table, kernel = _table(), 8 * xla.attribute(frame, _KERNEL)
        task = load(table)
        if xla.attribute(frame, _PREPARE):
            pool.run_parts(frame, load(table + kernel - 8), task, xla.attribute(frame, _PREPARE), 0)
        parts, scratch = xla.attribute(frame, _PARTS), xla.attribute(frame, _SCRATCH)
        pool.run_parts(frame, load(table + kernel), task, parts, scratch)
    return 0


@functools.cache
def register() -> list:
    """Makes the kernels known to XLA; what is returned must live as long as the process."""
    compiled = [_compiled(pool.TASK, pool.task), *(_compiled(pool.PART, kernel) for kernel in KERNELS.values())]
    table = (ctypes.c_void_p * len(compiled))(*(c_function.address for c_function in compiled))
    llvm.add_symbol(_TABLE, ctypes.addressof(table))
    handler = _compiled(pool.TASK, _handler)
    for name in KERNELS:
        jax.ffi.register_ffi_target(f"tcm_jax_{name}", jax.ffi.pycapsule(handler.ctypes), platform="cpu")
    return [compiled, table, handler]
