"""The kernels' table, and the kernels as XLA's custom calls: object code by Numba, kept in the user's cache folder.

A kernel is one C function (call frame, part, scratch memory): it does one part of a call's work. One handler serves all
of XLA's calls (`pool.handle`). It finds the kernel, and into how many parts the call is divided, in the attributes.
"""

import ctypes
import functools
from typing import Any

import llvmlite.binding as llvm

from tcm_jax.system.locks import make_lock
from tcm_jax.system.machine_code import INTEGER
from tcm_jax.system.object_code import address

KERNELS = {
    "pack": "pack.columns",
    "winograd_kernel": "winograd.transform_kernel",  # what is done before another, by `prepare`, stands before it
    "winograd": "winograd.convolve",
    "strided": "strided.convolve",
    "product": "dense.product",
    "gdn": "dense.gdn",
    "pointwise": "functions.apply",
    "swin": "swin.block",
    "blur": "filters.blur",
    "swin_gradient": "swin_gradient.block",
    "swin_gradients": "swin_sums.add_parts",
    "kernel_gradient_sums": "kernel_gradient.add_products",
    "kernel_gradient": "kernel_gradient.add_groups",
}  # functions by their modules here, which import Numba
# What few processes need is made when they ask for it: for searches of latents, and for training.
SEARCH = ("swin_gradient", "blur")
TRAINING = (*SEARCH, "swin_gradients", "kernel_gradient_sums", "kernel_gradient")
IN_ORDER = [name for name in KERNELS if name not in TRAINING][::-1]  # in which they are made: the longest first
POOL = {"task": 1, "lead": 2, "serve": 1}  # functions of pool.py that are called from outside, and their int64s
NUMBERS = {name: number for number, name in enumerate(KERNELS, 1)}  # places in the table of functions, after `task`
_registering = make_lock()  # XLA takes a name once
TABLE = "tcm_jax_functions"  # symbol of the table of the addresses of C functions


def address_of(place: str, arguments: int) -> int:
    """Address of a function of a module here, of so many int64."""
    module, _, name = place.partition(".")
    return address(f"{__package__}.{module}", name, (INTEGER,) * arguments)


def address_in_pool(name: str) -> int:
    """Address of one of POOL."""
    return address_of(f"pool.{name}", POOL[name])


@functools.cache
def table() -> Any:
    """The addresses of the kernels by their numbers, in memory that lives as long as the process."""
    kernels = {name: address_of(KERNELS[name], 3) for name in IN_ORDER}
    addresses = [address_in_pool("task"), *(kernels.get(name, 0) for name in KERNELS)]
    found = (ctypes.c_void_p * len(addresses))(*addresses)
    llvm.add_symbol(TABLE, ctypes.addressof(found))
    return found


def register() -> None:
    """Makes the kernels known to XLA."""
    with _registering:
        _handler()


@functools.cache
def _handler() -> Any:
    """What XLA was told to call, which must live as long as the process."""
    import jax  # without which the codec may do

    table()
    handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(address_of("pool.handle", 1))
    for name in KERNELS:
        jax.ffi.register_ffi_target(f"tcm_jax_{name}", jax.ffi.pycapsule(handler), platform="cpu")
    return handler


def add_search() -> None:
    """Makes the kernels of SEARCH, which `table` leaves out, and has XLA know all kernels."""
    _add(SEARCH)


def add_training() -> None:
    """Makes the kernels of TRAINING, which `table` leaves out, and has XLA know all kernels."""
    _add(TRAINING)


def _add(names):
    for name in names:
        table()[NUMBERS[name]] = address_of(KERNELS[name], 3)
    register()


def made(name: str) -> bool:
    """Whether a kernel is there: XLA's call of another would end the process."""
    return name not in TRAINING or bool(table()[NUMBERS[name]])
