"""The kernels as XLA's custom calls: compiled by Numba, kept in the user's cache folder."""

import functools
import hashlib
from pathlib import Path

import jax
import llvmlite.binding as llvm
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from tcm_jax.ops.kernels import dense, functions, share, strided, swin, winograd
from tcm_jax.ops.kernels.emit import WORD, function
from tcm_jax.system.cache import keep_compiled


@functools.cache
def _version() -> str:
    """Of this package's sources."""
    sources = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


def _compiled(signature, python_function):
    return keep_compiled(lambda keep: cfunc(signature, cache=keep)(python_function), _version())


@intrinsic(prefer_literal=True)
def _address(_, name):
    """Address of a C function that `register` has made known."""

    def emit(context, builder, signature, arguments):
        return builder.ptrtoint(function(builder, name.literal_value, ir.VoidType()), WORD)

    return types.int64(name), emit


def _winograd_kernel(frame, part, scratch):
    winograd.prepare(
        part,
        share.argument(frame, 1),
        share.dimension(frame, 1, 2),
        share.dimension(frame, 1, 3),
        share.attribute(frame, 1),
        share.result(frame, 1),
    )
    return 0


def _winograd(frame, part, scratch):
    winograd.convolve(
        part,
        scratch,
        share.argument(frame, 0),
        *share.map_size(frame, 0),
        share.result(frame, 1),
        share.argument(frame, 2),
        share.number(frame, 3),
        share.result(frame, 0),
        share.result_dimension(frame, 0, 3),
        share.attribute(frame, 0),
        share.attribute(frame, 1),
    )
    return 0


def _winograd_handler(frame):
    if not share.asked_for_version(frame):
        batch, height, width, channels = share.map_size(frame, 0)
        out_columns, task = share.attribute(frame, 1), _address("tcm_jax_task")
        share.share(frame, _address("tcm_jax_winograd_kernel"), task, -(-channels // winograd.CHANNELS), 0)
        parts = winograd.parts(batch, height, width, channels, out_columns)
        share.share(frame, _address("tcm_jax_winograd"), task, parts, winograd.scratch(channels, out_columns))
    return 0


def _strided(frame, part, scratch):
    strided.convolve(
        part,
        scratch,
        share.argument(frame, 0),
        *share.map_size(frame, 0),
        share.argument(frame, 1),
        share.argument(frame, 2),
        share.number(frame, 3),
        share.result(frame, 0),
        share.result_dimension(frame, 0, 3),
    )
    return 0


def _strided_handler(frame):
    if not share.asked_for_version(frame):
        batch, height, width, channels = share.map_size(frame, 0)
        scratch = strided.scratch(channels, share.result_dimension(frame, 0, 3))
        parts = strided.parts(batch, height, width)
        share.share(frame, _address("tcm_jax_strided"), _address("tcm_jax_task"), parts, scratch)
    return 0


def _product(frame, part, scratch):
    dense.product(
        part,
        scratch,
        share.argument(frame, 0),
        share.dimension(frame, 0, 1),
        share.argument(frame, 1),
        share.dimension(frame, 1, 1),
        share.dimension(frame, 0, 0),
        share.argument(frame, 2),
        share.argument(frame, 3),
        share.argument(frame, 4) if share.dimension(frame, 4, 1) else 0,
        share.result(frame, 0),
        share.result_dimension(frame, 0, 1),
        share.result(frame, 1),
        share.result_dimension(frame, 1, 1),
    )
    return 0


def _product_handler(frame):
    if not share.asked_for_version(frame):
        channels = share.dimension(frame, 0, 1) + share.dimension(frame, 1, 1)
        features = share.result_dimension(frame, 0, 1) + share.result_dimension(frame, 1, 1)
        parts = -(-share.dimension(frame, 0, 0) // dense.POSITIONS)
        scratch = dense.scratch(channels, features)
        share.share(frame, _address("tcm_jax_product"), _address("tcm_jax_task"), parts, scratch)
    return 0


def _gdn(frame, part, scratch):
    dense.gdn(
        part,
        scratch,
        share.argument(frame, 0),
        share.dimension(frame, 0, 1),
        share.dimension(frame, 0, 0),
        share.argument(frame, 1),
        share.argument(frame, 2),
        share.argument(frame, 3),
        share.attribute(frame, 0) != 0,
        share.result(frame, 0),
    )
    return 0


def _gdn_handler(frame):
    if not share.asked_for_version(frame):
        channels = share.dimension(frame, 0, 1)
        parts, scratch = -(-share.dimension(frame, 0, 0) // dense.POSITIONS), dense.scratch(channels, channels)
        share.share(frame, _address("tcm_jax_gdn"), _address("tcm_jax_task"), parts, scratch)
    return 0


def _pointwise(frame, part, scratch):
    functions.apply(
        part,
        scratch,
        share.attribute(frame, 0),
        share.argument(frame, 0),
        share.argument(frame, 1),
        share.argument(frame, 2),
        share.dimension(frame, 0, 0),
        share.result(frame, 0),
    )
    return 0


def _pointwise_handler(frame):
    if not share.asked_for_version(frame):
        parts, scratch = -(-share.dimension(frame, 0, 0) // functions.VALUES), 3 * functions.STEP
        share.share(frame, _address("tcm_jax_pointwise"), _address("tcm_jax_task"), parts, scratch)
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
        *share.map_size(frame, 0),
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
        batch, height, width, channels = share.map_size(frame, 0)
        windows, scratch = batch * (height // window) * (width // window), swin.scratch(channels, window)
        share.share(frame, _address("tcm_jax_swin"), _address("tcm_jax_task"), -(-windows // swin.WINDOWS), scratch)
    return 0


_PARTS = {
    "tcm_jax_winograd_kernel": _winograd_kernel,
    "tcm_jax_winograd": _winograd,
    "tcm_jax_strided": _strided,
    "tcm_jax_product": _product,
    "tcm_jax_gdn": _gdn,
    "tcm_jax_pointwise": _pointwise,
    "tcm_jax_swin": _swin,
}
_HANDLERS = {
    "tcm_jax_winograd": _winograd_handler,
    "tcm_jax_strided": _strided_handler,
    "tcm_jax_product": _product_handler,
    "tcm_jax_gdn": _gdn_handler,
    "tcm_jax_pointwise": _pointwise_handler,
    "tcm_jax_swin": _swin_handler,
}


@functools.cache
def register() -> list:
    """Makes the kernels known to XLA; what is returned must live as long as the process."""
    parts = {"tcm_jax_task": _compiled(share.HANDLER, share.task)}
    parts |= {name: _compiled(share.WORK, part) for name, part in _PARTS.items()}
    for name, part in parts.items():
        llvm.add_symbol(name, part.address)
    handlers = {name: _compiled(share.HANDLER, handler) for name, handler in _HANDLERS.items()}
    for name, handler in handlers.items():
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler.ctypes), platform="cpu")
    return [parts, handlers]
