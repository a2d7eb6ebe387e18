"""Vectors of LANES floats as values in Numba's functions, with operators."""

import operator

from llvmlite import ir
from numba import float32, int64, types
from numba.core.datamodel import models
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, register_model

from tcm_jax.ops.kernels.emit import VECTOR, function, load_vector, splat, store_vector, word
from tcm_jax.ops.kernels.machine import LANES


class Vector(types.Type):
    """Numba's type of LANES floats in one register."""

    def __init__(self):
        super().__init__(f"Vector{LANES}")


vector = Vector()
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, VECTOR)


@intrinsic
def get(_, address):
    """The vector of LANES floats at an address."""

    def emit(context, builder, signature, arguments):
        return load_vector(builder, arguments[0], word(0))

    return vector(int64), emit


@intrinsic
def put(_, value, address):
    """Puts a vector at an address."""

    def emit(context, builder, signature, arguments):
        store_vector(builder, arguments[0], arguments[1], word(0))
        return context.get_dummy_value()

    return types.void(vector, int64), emit


@intrinsic
def everywhere(_, value):
    """A vector with one float in every lane."""

    def emit(context, builder, signature, arguments):
        return splat(builder, arguments[0])

    return vector(float32), emit


def _operator(symbol, instruction):
    @infer_global(symbol)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            return signature(vector, vector, vector) if args == (vector, vector) else None

    @lower_builtin(symbol, Vector, Vector)
    def emit(context, builder, _, arguments):
        return getattr(builder, instruction)(*arguments)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_symbol, _instruction)


def _by_llvm(name, count):
    def emit(context, builder, signature, arguments):
        return builder.call(function(builder, f"llvm.{name}.v{LANES}f32", VECTOR, *[VECTOR] * count), arguments)

    return vector(*[vector] * count), emit


@intrinsic
def fma(_, a, b, c):
    """Vector a * b + c, rounded once."""
    return _by_llvm("fma", 3)


@intrinsic
def maximum(_, a, b):
    """The larger float of each lane; of a float and not-a-number the float."""
    return _by_llvm("maxnum", 2)


@intrinsic
def minimum(_, a, b):
    """The smaller float of each lane; of a float and not-a-number the float."""
    return _by_llvm("minnum", 2)


@intrinsic
def zero_below(_, a):
    """The ReLU of each lane: 0 for what is below 0, and all else, not-a-number too, as it is."""

    def emit(context, builder, signature, arguments):
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered("<", arguments[0], zero), zero, arguments[0])

    return vector(vector), emit


@intrinsic
def floor(_, a):
    """Every float rounded down to a whole number."""
    return _by_llvm("floor", 1)


@intrinsic
def square_root(_, a):
    """The square root of every float."""
    return _by_llvm("sqrt", 1)


@intrinsic
def power_of_two(_, a):
    """2**a, of whole numbers from -126 to 127."""

    def emit(context, builder, signature, arguments):
        exponent = builder.fptosi(arguments[0], _INTEGERS)
        exponent = builder.add(exponent, ir.Constant(_INTEGERS, [127] * LANES))
        return builder.bitcast(builder.shl(exponent, ir.Constant(_INTEGERS, [23] * LANES)), VECTOR)

    return vector(vector), emit


@intrinsic
def exponent(_, a):
    """The largest whole number whose power of two is not above a, of positive normal floats."""

    def emit(context, builder, signature, arguments):
        bits = builder.lshr(builder.bitcast(arguments[0], _INTEGERS), ir.Constant(_INTEGERS, [23] * LANES))
        return builder.sitofp(builder.sub(bits, ir.Constant(_INTEGERS, [127] * LANES)), VECTOR)

    return vector(vector), emit


@intrinsic
def total(_, a):
    """Sum of the lanes, of neighbouring halves first."""

    def emit(context, builder, signature, arguments):
        (value,) = arguments
        count = LANES
        while count > 1:
            count //= 2
            lanes = [ir.Constant(ir.IntType(32), (i + count) % LANES) for i in range(LANES)]
            mask = ir.Constant(_INTEGERS, lanes)
            value = builder.fadd(value, builder.shuffle_vector(value, value, mask))
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return float32(vector), emit


@intrinsic
def transpose(_, x, x_row, y, y_row, factor):
    """LANES x LANES floats at the address x, rows `x_row` floats apart, times a factor, transposed to y."""

    def emit(context, builder, signature, arguments):
        x, x_row, y, y_row, factor = arguments
        factor = splat(builder, factor)
        rows = [builder.fmul(load_vector(builder, x, builder.mul(x_row, word(r))), factor) for r in range(LANES)]
        distance = LANES // 2
        while distance:  # exchanges blocks of this size across the diagonal
            for r in range(LANES):
                if not r & distance:
                    upper, lower = rows[r], rows[r + distance]
                    first = [c if not c & distance else LANES + c - distance for c in range(LANES)]
                    second = [c + distance if not c & distance else LANES + c for c in range(LANES)]
                    rows[r] = builder.shuffle_vector(upper, lower, ir.Constant(_INTEGERS, first))
                    rows[r + distance] = builder.shuffle_vector(upper, lower, ir.Constant(_INTEGERS, second))
            distance //= 2
        for r in range(LANES):
            store_vector(builder, rows[r], y, builder.mul(y_row, word(r)))
        return context.get_dummy_value()

    return types.void(int64, int64, int64, int64, float32), emit
