"""A custom call of XLA's, its work shared with the threads of XLA's own pool.

Layouts are those of XLA's `xla/ffi/api/c_api.h`, version 0; XLA asks for the version before it calls, and refuses
another one.
"""

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tcm_jax.ops.kernels.emit import WORD, call, fetch_add, floats, function, internal, load, load_shared, store

HANDLER = types.int64(types.int64)  # of a call frame to an error, 0 for none; and of a `task`
WORK = types.int64(types.int64, types.int64, types.int64)  # a call frame, which part to do, scratch memory; 0

# What the threads share: how many still may read it, parts taken, parts done, parts, call frame, work, bytes of scratch
# memory, and the arguments of the pool's two functions.
_USERS, _TAKEN, _DONE, _PARTS, _FRAME, _WORK, _SCRATCH, _ARGUMENTS, _THREADS, _SHARED = (*range(0, 64, 8), 96, 104)
_SCHEDULE, _NUM_THREADS = 136, 144  # bytes from the beginning of XLA_FFI_Api
_ALIGNED = 64
_METADATA = 1  # type of the extension by which XLA asks for the version


@intrinsic
def _malloc(_, size):
    def emit(context, builder, signature, arguments):
        pointer = builder.call(function(builder, "malloc", ir.IntType(8).as_pointer(), WORD), arguments)
        return builder.ptrtoint(pointer, WORD)

    return types.int64(types.int64), emit


@intrinsic
def _free(_, address):
    def emit(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        builder.call(function(builder, "free", ir.VoidType(), pointer.type), [pointer])
        return context.get_dummy_value()

    return types.void(types.int64), emit


@internal
def _leave(shared):
    if fetch_add(shared + _USERS, -1) == 1:
        _free(shared)


@internal
def _take_parts(shared):
    parts = load(shared + _PARTS)
    part = fetch_add(shared + _TAKEN, 1)
    if part < parts:
        scratch = _malloc(load(shared + _SCRATCH) + _ALIGNED)
        while part < parts:
            call(load(shared + _WORK), load(shared + _FRAME), part, scratch + _ALIGNED - scratch % _ALIGNED)
            fetch_add(shared + _DONE, 1)
            part = fetch_add(shared + _TAKEN, 1)
        _free(scratch)


def task(shared):
    """What a thread of the pool does; it may begin long after all has been done."""
    _take_parts(shared)
    _leave(shared)
    return 0


@internal
def _threads(frame, shared):
    """Threads of XLA's pool."""
    arguments = shared + _ARGUMENTS
    store(arguments, 32)
    store(arguments + 8, 0)
    store(arguments + 16, load(frame + 24))
    store(arguments + 24, shared + _THREADS)
    store(shared + _THREADS, 0)
    error = call(load(load(frame + 16) + _NUM_THREADS), arguments, 0, 0)
    return 1 if error else max(1, load(shared + _THREADS))


@internal
def share(frame, work, task, parts, scratch):
    """Has the function at `work` do all parts of a call, on as many threads as there are, and waits for them.

    It gets `scratch` bytes of memory, aligned and not cleared.
    """
    shared = _malloc(_SHARED)
    store(shared + _TAKEN, 0)
    store(shared + _DONE, 0)
    store(shared + _PARTS, parts)
    store(shared + _FRAME, frame)
    store(shared + _WORK, work)
    store(shared + _SCRATCH, scratch)
    helpers = min(_threads(frame, shared), parts) - 1
    store(shared + _USERS, helpers + 1)
    arguments = shared + _ARGUMENTS
    store(arguments, 40)
    store(arguments + 24, task)
    store(arguments + 32, shared)
    for _ in range(helpers):
        if call(load(load(frame + 16) + _SCHEDULE), arguments, 0, 0):  # an error: one thread less
            fetch_add(shared + _USERS, -1)
    _take_parts(shared)
    while load_shared(shared + _DONE) < parts:
        pass
    _leave(shared)


@internal
def asked_for_version(frame):
    """Answers if XLA only wants to know the version of its interface that a handler is made for."""
    extension = load(frame + 8)
    if extension == 0 or load(extension + 8) & 0xFFFFFFFF != _METADATA:
        return False
    api = load(frame + 16)
    minor = load(api + 32) >> 32 if api else 1  # XLA of JAX 0.5 does not tell its own
    store(load(extension + 24) + 24, minor << 32)  # major version 0
    return True


@internal
def argument(frame, i):
    """Address of the values of an argument."""
    return load(load(load(frame + 72) + 8 * i) + 24)


@internal
def number(frame, i):
    """The float32 of an argument that has one value."""
    return carray(floats(argument(frame, i)), (1,))[0]


@internal
def dimension(frame, i, axis):
    """Size of an argument."""
    return load(load(load(load(frame + 72) + 8 * i) + 40) + 8 * axis)


@internal
def map_size(frame, i):
    """Sizes of an argument that is a map: batch, height, width, channels."""
    return dimension(frame, i, 0), dimension(frame, i, 1), dimension(frame, i, 2), dimension(frame, i, 3)


@internal
def result(frame, i):
    """Address of the values of a result."""
    return load(load(load(frame + 112) + 8 * i) + 24)


@internal
def result_dimension(frame, i, axis):
    """Size of a result."""
    return load(load(load(load(frame + 112) + 8 * i) + 40) + 8 * axis)


@internal
def attribute(frame, i):
    """An attribute, int64, by its place in the order of their names."""
    return load(load(load(load(frame + 160) + 8 * i) + 8))
