"""The linear transforms of Winograd's algorithm, in LLVM's vectors: F(2, 3) by F(2, 3), and F(2, 3) by F(4, 3)."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tcm_jax.ops.kernels.emit import VECTOR, Loop, fma, function, load_vector, splat, store_vector, word
from tcm_jax.ops.kernels.machine import LANES


def _constant(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [value] * LANES)


def _inputs2(b, d):
    return [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])]


def _inputs4(b, d):
    even1, odd1 = fma(b, _constant(-4.0), d[2], d[4]), fma(b, _constant(-4.0), d[1], d[3])
    even2, odd2 = b.fsub(d[4], d[2]), b.fsub(d[3], d[1])
    return [
        fma(b, _constant(4.0), d[0], fma(b, _constant(-5.0), d[2], d[4])),
        b.fadd(even1, odd1),
        b.fsub(even1, odd1),
        fma(b, _constant(2.0), odd2, even2),
        fma(b, _constant(-2.0), odd2, even2),
        fma(b, _constant(4.0), d[1], fma(b, _constant(-5.0), d[3], d[5])),
    ]


def _kernel2(b, k):
    even, odd = b.fmul(_constant(1 / 2), b.fadd(k[0], k[2])), b.fmul(_constant(1 / 2), k[1])
    return [k[0], b.fadd(even, odd), b.fsub(even, odd), k[2]]


def _kernel4(b, k):
    even = b.fmul(_constant(-1 / 6), b.fadd(k[0], k[2]))
    outer = fma(b, _constant(1 / 24), k[0], b.fmul(_constant(1 / 6), k[2]))
    return [
        b.fmul(_constant(1 / 4), k[0]),
        fma(b, _constant(-1 / 6), k[1], even),
        fma(b, _constant(1 / 6), k[1], even),
        fma(b, _constant(1 / 12), k[1], outer),
        fma(b, _constant(-1 / 12), k[1], outer),
        k[2],
    ]


def _outputs2(b, m):
    return [b.fadd(m[0], b.fadd(m[1], m[2])), b.fsub(b.fsub(m[1], m[2]), m[3])]


def _outputs4(b, m):
    even1, odd1, even2, odd2 = b.fadd(m[1], m[2]), b.fsub(m[1], m[2]), b.fadd(m[3], m[4]), b.fsub(m[3], m[4])
    return [
        b.fadd(m[0], b.fadd(even1, even2)),
        fma(b, _constant(2.0), odd2, odd1),
        fma(b, _constant(4.0), even2, even1),
        b.fadd(m[5], fma(b, _constant(8.0), odd2, odd1)),
    ]


# By the number of outputs: transforms of inputs, kernel and products, for the points 0, 1, -1, (2, -2,) infinity.
_TRANSFORMS = {2: (_inputs2, _kernel2, _outputs2), 4: (_inputs4, _kernel4, _outputs4)}


def _addresses(builder, table, count):
    pointer = builder.inttoptr(table, word(0).type.as_pointer())
    return [builder.load(builder.gep(pointer, [word(i)])) for i in range(count)]


def _two_dimensions(builder, by_row, by_column, values, rows, columns):
    """Transforms rows of `columns` values, then each column; returns the results by rows."""
    done = [by_row(builder, values[r * columns :][:columns]) for r in range(rows)]
    transformed = [by_column(builder, column) for column in zip(*done, strict=True)]
    return list(zip(*transformed, strict=True))


def _intrinsics(out_columns):
    """Loops over vectors of channels or features that transform one patch, one channel's kernel, and products."""
    points, columns = 4 * (out_columns + 2), out_columns + 2
    (row_inputs, row_kernel, row_outputs), (inputs, kernels, outputs) = _TRANSFORMS[out_columns], _TRANSFORMS[2]

    def put_points(builder, results, target, stride, i):
        for point, value in enumerate(value for row in results for value in row):
            store_vector(builder, value, target, builder.add(i, builder.mul(stride, word(point))))

    @intrinsic
    def patch(_, table, v, stride, channels):
        """Transforms the pixels whose addresses are in `table`; they go to v + point * stride."""

        def emit(context, builder, signature, arguments):
            table, v, stride, channels = arguments
            sources = _addresses(builder, table, points)
            with Loop(builder, channels, LANES) as loop:
                pixels = [load_vector(builder, source, loop.i) for source in sources]
                put_points(builder, _two_dimensions(builder, row_inputs, inputs, pixels, 4, columns), v, stride, loop.i)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), emit

    @intrinsic
    def kernel(_, first, between, u, stride, features):
        """Transforms the nine elements, `between` floats apart from `first` on; they go to u + point * stride."""

        def emit(context, builder, signature, arguments):
            first, between, u, stride, features = arguments
            with Loop(builder, features, LANES) as loop:
                places = [builder.add(loop.i, builder.mul(between, word(i))) for i in range(9)]
                taps = [load_vector(builder, first, place) for place in places]
                put_points(builder, _two_dimensions(builder, row_kernel, kernels, taps, 3, 3), u, stride, loop.i)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    @intrinsic
    def products(_, m, stride, bias, slope, table):
        """A vector of one patch's outputs from products at m + point * stride, plus bias, max(x, slope * x)."""

        def emit(context, builder, signature, arguments):
            m, stride, bias, slope, table = arguments
            maximum = function(builder, f"llvm.maxnum.v{LANES}f32", VECTOR, VECTOR, VECTOR)
            slope, bias = splat(builder, slope), load_vector(builder, bias, word(0))
            values = [load_vector(builder, m, builder.mul(stride, word(i))) for i in range(points)]
            results = _two_dimensions(builder, row_outputs, outputs, values, 4, columns)
            for target, value in zip(
                _addresses(builder, table, 2 * out_columns), (value for row in results for value in row), strict=True
            ):
                value = builder.fadd(value, bias)
                store_vector(builder, builder.call(maximum, [value, builder.fmul(value, slope)]), target, word(0))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.float32, types.int64), emit

    return patch, kernel, products


patch2, kernel2, outputs2 = _intrinsics(2)
patch4, kernel4, outputs4 = _intrinsics(4)
