"""The kernels as XLA's custom calls: compiled by Numba, kept in the user's cache folder."""

import ctypes
import functools
import hashlib
from pathlib import Path

import jax
import llvmlite.binding as llvm
from llvmlite import ir
from numba import cfunc, config, types
from numba.extending import intrinsic

from tcm_jax.cache import cache_folder
from tcm_jax.kernels import share, swin, winograd
from tcm_jax.kernels.emit import WORD, function


def _compiled(signature, python_function):
    """`cfunc`, its result kept in a folder of its own for each version of this package: Numba asks for one file's."""
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(Path(before or cache_folder() / "numba") / source.hexdigest()[:16])
        return cfunc(signature, cache=True)(python_function)
    except RuntimeError:
        return cfunc(signature)(python_function)
    finally:
        config.CACHE_DIR = before


@intrinsic(prefer_literal=True)
def _address(_, name):
    """Address of a C function that `_named` has made known."""

    def emit(context, builder, signature, arguments):
        return builder.ptrtoint(function(builder, name.literal_value, ir.VoidType()), WORD)

    return types.int64(name), emit


def _winograd_kernel(frame, part, scratch):
    channels, features = share.dimension(frame, 1, 2), share.dimension(frame, 1, 3)
    winograd.prepare(part, share.argument(frame, 1), channels, features, share.result(frame, 1))
    return 0


def _winograd(frame, part, scratch):
    winograd.convolve(
        part,
        scratch,
        share.argument(frame, 0),
        share.dimension(frame, 0, 0),
        share.dimension(frame, 0, 1),
        share.dimension(frame, 0, 2),
        share.dimension(frame, 0, 3),
        share.result(frame, 1),
        share.argument(frame, 2),
        share.number(frame, 3),
        share.result(frame, 0),
        share.result_dimension(frame, 0, 3),
        share.attribute(frame, 0),
    )
    return 0


def _winograd_handler(frame):
    if not share.asked_for_version(frame):
        channels, task = share.dimension(frame, 0, 3), _address("tcm_jax_task")
        share.share(frame, _address("tcm_jax_winograd_kernel"), task, -(-channels // winograd.CHANNELS), 0)
        parts = winograd.parts(share.dimension(frame, 0, 0), share.dimension(frame, 0, 1), share.dimension(frame, 0, 2))
        share.share(frame, _address("tcm_jax_winograd"), task, parts, winograd.scratch(channels))
    return 0


def _swin(frame, part, scratch):
    parameters = (
        share.argument(frame, 1), share.argument(frame, 2), share.argument(frame, 3), share.argument(frame, 4),
        share.argument(frame, 5), share.argument(frame, 6), share.argument(frame, 7), share.argument(frame, 8),
        share.argument(frame, 9), share.argument(frame, 10), share.argument(frame, 11), share.argument(frame, 12),
        share.argument(frame, 13),
    )  # fmt: skip
    swin.block(
        part,
        scratch,
        share.argument(frame, 0),
        share.dimension(frame, 0, 0),
        share.dimension(frame, 0, 1),
        share.dimension(frame, 0, 2),
        share.dimension(frame, 0, 3),
        share.attribute(frame, 2),
        share.attribute(frame, 0),
        share.attribute(frame, 1) != 0,
        parameters,
        share.result(frame, 0),
    )
    return 0


def _swin_handler(frame):
    if not share.asked_for_version(frame):
        window = share.attribute(frame, 2)
        windows = share.dimension(frame, 0, 0) * share.dimension(frame, 0, 1) * share.dimension(frame, 0, 2)
        windows //= window * window
        scratch = swin.scratch(share.dimension(frame, 0, 3), window)
        share.share(frame, _address("tcm_jax_swin"), _address("tcm_jax_task"), -(-windows // swin.WINDOWS), scratch)
    return 0


@functools.cache
def register():
    """Makes the kernels known to XLA."""
    kept = []
    for name, signature, python_function in (
        ("tcm_jax_task", share.TASK, share.task),
        ("tcm_jax_winograd_kernel", share.WORK, _winograd_kernel),
        ("tcm_jax_winograd", share.WORK, _winograd),
        ("tcm_jax_swin", share.WORK, _swin),
    ):
        compiled = _compiled(signature, python_function)
        llvm.add_symbol(name, compiled.address)
        kept.append(compiled)
    for name, python_function in (("tcm_jax_winograd", _winograd_handler), ("tcm_jax_swin", _swin_handler)):
        compiled = _compiled(share.HANDLER, python_function)
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(compiled.ctypes), platform="cpu")
        kept.append(compiled)
    return kept  # alive as long as the process
