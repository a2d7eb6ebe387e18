"""What XLA gives a custom call (frame.py), read by Numba's functions.

XLA asks a handler for the version that it is made for before it calls it, and refuses another one. An address is an
int64, as everywhere in the kernels.
"""

from typing import NamedTuple

from numba import types
from numba.extending import intrinsic

from tcm_jax.ops.kernels import frame as c
from tcm_jax.ops.kernels.emit import WORD, internal, load, load_float, store, word

MAJOR_VERSION, _MINOR_UNKNOWN = 0, 1
_METADATA = 1  # the type of the extension by which XLA asks for the version

# Offsets in bytes: Numba takes numbers from a module, not structures.
_EXTENSION, _API, _CONTEXT = c.CallFrame.extension_start.offset, c.CallFrame.api.offset, c.CallFrame.ctx.offset
_ARGUMENTS = c.CallFrame.args.offset + c.Args.args.offset
_RESULTS = c.CallFrame.rets.offset + c.Rets.rets.offset
_ATTRIBUTES = c.CallFrame.attrs.offset + c.Attrs.attrs.offset
_DATA, _DIMENSIONS, _VALUE = c.Buffer.data.offset, c.Buffer.dims.offset, c.Scalar.value.offset
_TYPE, _METADATA_OF_EXTENSION = c.ExtensionBase.type.offset, c.MetadataExtension.metadata.offset
# Both numbers of a version are read and written as one word.
_API_VERSION = c.Api.api_version.offset + c.ApiVersion.major_version.offset
_METADATA_VERSION = c.Metadata.api_version.offset + c.ApiVersion.major_version.offset


@internal
def asked_for_version(frame):
    """Whether XLA only wants to know the version of its interface that a handler is made for, which it then gets."""
    extension = load(frame + _EXTENSION)
    if extension == 0 or load(extension + _TYPE) & 0xFFFFFFFF != _METADATA:
        return False
    api = load(frame + _API)
    minor = load(api + _API_VERSION) >> 32 if api else _MINOR_UNKNOWN  # XLA of JAX 0.5 does not tell its own
    store(load(extension + _METADATA_OF_EXTENSION) + _METADATA_VERSION, minor << 32 | MAJOR_VERSION)
    return True


# What follows is written in LLVM's instructions, since Numba would compile a function for each constant `i`.
def _load(builder, address, offset):
    return builder.load(builder.inttoptr(builder.add(address, word(offset)), WORD.as_pointer()))


def _entry(builder, frame, table, i):
    """Entry `i` of a table to which a field of the frame points: a buffer's address, or a scalar's."""
    return _load(builder, builder.add(_load(builder, frame, table), builder.mul(i, word(8))), 0)


def _axis(builder, buffer, axis):
    return _load(builder, builder.add(_load(builder, buffer, _DIMENSIONS), builder.mul(axis, word(8))), 0)


@intrinsic
def api(_, frame):
    """Address of XLA's table of functions, an `Api`."""

    def emit(context, builder, signature, arguments):
        return _load(builder, arguments[0], _API)

    return types.int64(types.int64), emit


@intrinsic
def call_context(_, frame):
    """Address of what XLA's functions want to know of a call."""

    def emit(context, builder, signature, arguments):
        return _load(builder, arguments[0], _CONTEXT)

    return types.int64(types.int64), emit


def _readers(entries):
    """Functions that read one of the frame's lists: (address of the values of entry `i`, length of one of its axes)."""

    @intrinsic
    def values(_, frame, i):
        def emit(context, builder, signature, arguments):
            frame, i = arguments
            return _load(builder, _entry(builder, frame, entries, i), _DATA)

        return types.int64(types.int64, types.int64), emit

    @intrinsic
    def size(_, frame, i, axis):
        def emit(context, builder, signature, arguments):
            frame, i, axis = arguments
            return _axis(builder, _entry(builder, frame, entries, i), axis)

        return types.int64(types.int64, types.int64, types.int64), emit

    return values, size


argument, argument_size = _readers(_ARGUMENTS)
result, result_size = _readers(_RESULTS)


@intrinsic
def attribute(_, frame, place):
    """The int64 of the attribute that is at a place in the order of their names."""

    def emit(context, builder, signature, arguments):
        frame, place = arguments
        return _load(builder, _load(builder, _entry(builder, frame, _ATTRIBUTES, place), _VALUE), 0)

    return types.int64(types.int64, types.int64), emit


def places(*names: str) -> tuple[int, ...]:
    """Places of a kernel's own attributes, all of which are named, for `attribute`."""
    return tuple(len(c.COMMON_ATTRIBUTES) + sorted(names).index(name) for name in names)


@internal
def number(frame, i):
    """The float32 of argument `i`, which has one value."""
    return load_float(argument(frame, i))


class Map(NamedTuple):
    """A map of float32 [batch, height, width, channels] at an address."""

    address: int
    batch: int
    height: int
    width: int
    channels: int


@internal
def first_argument(frame):
    """Argument 0 as a `Map`."""
    sizes = (
        argument_size(frame, 0, 0),
        argument_size(frame, 0, 1),
        argument_size(frame, 0, 2),
        argument_size(frame, 0, 3),
    )
    return Map(argument(frame, 0), *sizes)


@internal
def first_result(frame):
    """Result 0 as a `Map`."""
    batch, height, width = result_size(frame, 0, 0), result_size(frame, 0, 1), result_size(frame, 0, 2)
    return Map(result(frame, 0), batch, height, width, result_size(frame, 0, 3))
