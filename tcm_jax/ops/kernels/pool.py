"""The work of a call, shared among the threads of XLA's own pool, or among ours (`direct.py`)."""

import ctypes

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tcm_jax.ops.kernels import frame as c
from tcm_jax.ops.kernels import xla
from tcm_jax.ops.kernels.emit import WORD, call, fetch_add, function, internal, load, load_shared, pause, store
from tcm_jax.ops.kernels.handlers import TABLE

_ALIGNMENT = 64  # bytes, of scratch memory

_JOB, _USERS, _TAKEN, _DONE = ctypes.sizeof(c.Job), c.Job.users.offset, c.Job.taken.offset, c.Job.done.offset
_PARTS, _FRAME, _KERNEL, _SCRATCH = c.Job.parts.offset, c.Job.frame.offset, c.Job.kernel.offset, c.Job.scratch.offset
_SCHEDULE, _COUNT, _THREADS = c.Job.schedule.offset, c.Job.count.offset, c.Job.threads.offset
_SCHEDULE_SIZE, _COUNT_SIZE = ctypes.sizeof(c.ThreadPoolScheduleArgs), ctypes.sizeof(c.ThreadPoolNumThreadsArgs)
# As in every structure.
_STRUCT_SIZE, _EXTENSION = c.Buffer.struct_size.offset, c.Buffer.extension_start.offset
_CONTEXT = c.ThreadPoolScheduleArgs.ctx.offset  # as in ThreadPoolNumThreadsArgs
_TASK, _DATA = c.ThreadPoolScheduleArgs.task.offset, c.ThreadPoolScheduleArgs.data.offset
_NUM_THREADS = c.ThreadPoolNumThreadsArgs.num_threads.offset
_API_SCHEDULE = c.Api.XLA_FFI_ThreadPool_Schedule.offset
_API_NUM_THREADS = c.Api.XLA_FFI_ThreadPool_NumThreads.offset
_KERNEL_OF_CALL, _PARTS_OF_CALL, _PREPARE_OF_CALL, _SCRATCH_OF_CALL = range(len(c.COMMON_ATTRIBUTES))


_OPEN, _TICKET, _LAST = c.Board.open.offset, c.Board.ticket.offset, c.Board.job.offset
_PATIENCE = 20_000  # looks at a board, a millisecond on x86, after which a thread may do something else


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
def _leave(job):
    if fetch_add(job + _USERS, -1) == 1:
        _free(job)


@internal
def _do_parts(job):
    """Does one part after the other, until all have been begun."""
    parts = load(job + _PARTS)
    part = fetch_add(job + _TAKEN, 1)
    if part < parts:
        memory = _malloc(load(job + _SCRATCH) + _ALIGNMENT)
        scratch = memory + _ALIGNMENT - memory % _ALIGNMENT
        while part < parts:
            call(load(job + _KERNEL), load(job + _FRAME), part, scratch)
            fetch_add(job + _DONE, 1)
            part = fetch_add(job + _TAKEN, 1)
        _free(memory)


def task(job):
    """What a thread of the pool does; it may begin long after all has been done."""
    _do_parts(job)
    _leave(job)
    return 0


def serve(board):
    """Does parts of the jobs on a board, beside the thread that leads them, until none has come for a while."""
    seen, idle = 0, 0
    while idle < _PATIENCE and load_shared(board + _OPEN):
        ticket = load_shared(board + _TICKET)
        if ticket == seen:
            idle += 1
            pause()
        else:
            seen, idle = ticket, 0
            _do_parts(load_shared(board + _LAST))
    return 0


def lead(board, job):
    """Puts a job on a board, does parts of it, and waits for the others. Late readers find none left."""
    store(board + _LAST, job)
    fetch_add(board + _TICKET, 1)
    _do_parts(job)
    while load_shared(job + _DONE) < load(job + _PARTS):
        pause()
    return 0


@internal
def _fill_in(arguments, size, frame):
    """Sets what both structures of arguments begin with."""
    store(arguments + _STRUCT_SIZE, size)
    store(arguments + _EXTENSION, 0)
    store(arguments + _CONTEXT, xla.call_context(frame))


@internal
def _threads(frame, job):
    """Number of threads in XLA's pool, 1 where it does not say."""
    _fill_in(job + _COUNT, _COUNT_SIZE, frame)
    store(job + _COUNT + _NUM_THREADS, job + _THREADS)
    store(job + _THREADS, 0)
    error = call(load(xla.api(frame) + _API_NUM_THREADS), job + _COUNT, 0, 0)
    return 1 if error else max(1, load(job + _THREADS))


@internal
def run_parts(frame, kernel, task, parts, scratch):
    """Has the C function at `kernel` do all parts of a call, on as many threads as there are, and waits for them.

    It gets `scratch` bytes of memory, aligned and not cleared; `task` is the address of the function of that name.
    """
    job = _malloc(_JOB)
    store(job + _TAKEN, 0)
    store(job + _DONE, 0)
    store(job + _PARTS, parts)
    store(job + _FRAME, frame)
    store(job + _KERNEL, kernel)
    store(job + _SCRATCH, scratch)
    helpers = min(_threads(frame, job), parts) - 1
    store(job + _USERS, helpers + 1)
    _fill_in(job + _SCHEDULE, _SCHEDULE_SIZE, frame)
    store(job + _SCHEDULE + _TASK, task)
    store(job + _SCHEDULE + _DATA, job)
    for _ in range(helpers):
        if call(load(xla.api(frame) + _API_SCHEDULE), job + _SCHEDULE, 0, 0):  # an error: one thread less
            fetch_add(job + _USERS, -1)
    _do_parts(job)
    while load_shared(job + _DONE) < parts:
        pass
    _leave(job)


@intrinsic
def _table(_):
    """Address of the table of functions, which `handlers.register` has made known to LLVM."""

    def emit(context, builder, signature, arguments):
        return builder.ptrtoint(function(builder, TABLE, ir.VoidType()), WORD)

    return types.int64(), emit


def handle(frame):
    """What XLA calls, for every kernel; 0 is no error."""
    if not xla.asked_for_version(frame):
        table, kernel = _table(), 8 * xla.attribute(frame, _KERNEL_OF_CALL)
        task, prepare = load(table), xla.attribute(frame, _PREPARE_OF_CALL)
        parts, scratch = xla.attribute(frame, _PARTS_OF_CALL), xla.attribute(frame, _SCRATCH_OF_CALL)
        if prepare:
            run_parts(frame, load(table + kernel - 8), task, prepare, scratch)
        run_parts(frame, load(table + kernel), task, parts, scratch)
    return 0
