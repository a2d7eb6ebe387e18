"""What Numba has no words for: words in memory, atomic counters, and vectors of floats in registers.

Addresses are int64, as Numba's `array.ctypes.data` gives them; offsets and strides of `tile` count floats. A vector has
`LANES` floats, as many as a register of this machine holds.
"""

import platform

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, register_jitable

from tcm_jax.ops.kernels.machine import COLUMNS, LANES, ROWS, VECTORS

# For functions that only others like them call: wrappers for the rest take Numba as long as the functions.
internal = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
FLOAT, WORD = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)


def function(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
    """A function of LLVM's or of the process by its name, declared once a module."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def word(value: int) -> ir.Constant:
    """An int64 constant for LLVM's instructions."""
    return ir.Constant(WORD, value)


def pointer(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value, kind: ir.Type) -> ir.Value:
    """An LLVM pointer to what lies `offset` floats after the address `base`."""
    return builder.inttoptr(builder.add(base, builder.mul(offset, word(4))), kind.as_pointer())


def load_vector(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value) -> ir.Value:
    """The vector that lies `offset` floats after the address `base`, however aligned."""
    return builder.load(pointer(builder, base, offset, VECTOR), align=4)


def store_vector(builder: ir.IRBuilder, vector: ir.Value, base: ir.Value, offset: ir.Value) -> None:
    """Puts a vector `offset` floats after the address `base`, however aligned."""
    builder.store(vector, pointer(builder, base, offset, VECTOR), align=4)


def splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector with one float in every lane."""
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), zeros)


def fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """Vector a * b + c, rounded once."""
    return builder.call(function(builder, f"llvm.fma.v{LANES}f32", VECTOR, VECTOR, VECTOR, VECTOR), [a, b, c])


class Loop:
    """`with Loop(builder, count, step, values) as loop`: a body that runs for 0, and for step, ... below `count`.

    `loop.i` counts; `loop.values` are carried from one round to the next, given by `loop.next(values)` at the body's
    end; after it, `loop.results` are those of the last round.
    """

    def __init__(self, builder: ir.IRBuilder, count: ir.Value, step: int, values: list[ir.Value] | None = None):
        self.builder, self.count, self.step, self.first = builder, count, step, values or []

    def __enter__(self) -> "Loop":
        builder = self.builder
        self.before, self.body = builder.basic_block, builder.append_basic_block()
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.i = builder.phi(WORD)
        self.i.add_incoming(word(0), self.before)
        self.values = [builder.phi(value.type) for value in self.first]
        self.results: list[ir.Value] = []
        return self

    def next(self, values: list[ir.Value]) -> None:
        """Gives the values that the next round carries."""
        self.results = values

    def __exit__(self, *_) -> None:
        builder, end = self.builder, self.builder.basic_block
        following = builder.add(self.i, word(self.step))
        self.i.add_incoming(following, end)
        for phi, first, result in zip(self.values, self.first, self.results, strict=True):
            phi.add_incoming(first, self.before)
            phi.add_incoming(result, end)
        after = builder.append_basic_block()
        builder.cbranch(builder.icmp_signed("<", following, self.count), self.body, after)
        builder.position_at_end(after)


@intrinsic
def _tile(_, taps, count, a_row, a_inner, b, b_inner, inner, start, start_row, c, c_row):
    def emit(context, builder, signature, arguments):
        taps, count, a_row, a_inner, b, b_inner, inner, start, start_row, c, c_row = arguments
        places = [(r, v) for r in range(ROWS) for v in range(VECTORS)]

        def place(row, r, v):
            return builder.add(builder.mul(row, word(r)), word(v * LANES))

        first = [load_vector(builder, start, place(start_row, r, v)) for r, v in places]
        with Loop(builder, count, 1, first) as over_taps:
            a = builder.load(builder.inttoptr(builder.add(taps, builder.mul(over_taps.i, word(8))), WORD.as_pointer()))
            rows_before = builder.mul(over_taps.i, inner)
            with Loop(builder, inner, 1, over_taps.values) as loop:
                at_b = builder.mul(builder.add(rows_before, loop.i), b_inner)
                row_of_b = [load_vector(builder, b, builder.add(at_b, word(v * LANES))) for v in range(VECTORS)]
                at_a = builder.mul(loop.i, a_inner)
                sums = []
                for r in range(ROWS):
                    offset = builder.add(at_a, builder.mul(a_row, word(r)))
                    factor = splat(builder, builder.load(pointer(builder, a, offset, FLOAT), align=4))
                    sums += [fma(builder, factor, row_of_b[v], loop.values[VECTORS * r + v]) for v in range(VECTORS)]
                loop.next(sums)
            over_taps.next(loop.results)
        for (r, v), total in zip(places, over_taps.results, strict=True):
            store_vector(builder, total, c, place(c_row, r, v))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), emit


@internal
def tile(taps, count, a_row, a_inner, b, b_inner, inner, start, start_row, c, c_row):
    """ROWS x COLUMNS of a sum of `count` matrix products: C = start + sum of A_t B_t over t.

    `taps` is the address of the addresses of A_t; A_t[r, k] lies r * a_row + k * a_inner floats after them. The rows of
    B_0, B_1, ..., `inner` each, follow each other, `b_inner` floats apart, from `b` on; those of `start` are
    `start_row` apart, those of C `c_row`. The sum is taken in this order, with fused products, whatever the machine.
    """
    _tile(taps, count, a_row, a_inner, b, b_inner, inner, start, start_row, c, c_row)


@register_jitable
def filled(features):
    """`features` rounded up to a multiple of COLUMNS."""
    return -(-features // COLUMNS) * COLUMNS


@intrinsic
def copy(_, target, source, size):
    """Copies `size` bytes from one address to another."""

    def emit(context, builder, signature, arguments):
        kind = ir.IntType(8).as_pointer()
        places = [builder.inttoptr(argument, kind) for argument in arguments[:2]]
        builder.call(function(builder, "memcpy", kind, kind, kind, WORD), [*places, arguments[2]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@intrinsic
def clear(_, target, size):
    """Sets `size` bytes at an address to 0."""

    def emit(context, builder, signature, arguments):
        kind, zero = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.inttoptr(arguments[0], kind)
        builder.call(function(builder, "memset", kind, kind, zero, WORD), [place, zero(0), arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


def _access(kind, numba_type):
    """(what reads the number that lies at an address, what puts one there)."""

    @intrinsic
    def load(_, address):
        def emit(context, builder, signature, arguments):
            return builder.load(builder.inttoptr(arguments[0], kind.as_pointer()))

        return numba_type(types.int64), emit

    @intrinsic
    def store(_, address, value):
        def emit(context, builder, signature, arguments):
            builder.store(arguments[1], builder.inttoptr(arguments[0], kind.as_pointer()))
            return context.get_dummy_value()

        return types.void(types.int64, numba_type), emit

    return load, store


load, store = _access(WORD, types.int64)
load_float, store_float = _access(FLOAT, types.float32)


@intrinsic
def fetch_add(_, address, value):
    """Adds to a word that other threads see, and returns what it was."""

    def emit(context, builder, signature, arguments):
        target = builder.inttoptr(arguments[0], WORD.as_pointer())
        return builder.atomic_rmw("add", target, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), emit


@intrinsic
def load_shared(_, address):
    """A word that other threads change, and after it all that they wrote before."""

    def emit(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], WORD.as_pointer()), "acquire", 8)

    return types.int64(types.int64), emit


@intrinsic
def pause(_):
    """Leaves a core of an x86 processor to its other thread for a moment."""

    def emit(context, builder, signature, arguments):
        if platform.machine() in ("x86_64", "AMD64"):
            builder.call(function(builder, "llvm.x86.sse2.pause", ir.VoidType()), [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def call(_, address, first, second, third):
    """Calls a C function of three words by its address; one that takes fewer does not see the rest."""

    def emit(context, builder, signature, arguments):
        kind = ir.FunctionType(WORD, [WORD, WORD, WORD]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], kind), arguments[1:])

    return types.int64(*[types.int64] * 4), emit
