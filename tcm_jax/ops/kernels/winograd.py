"""3x3 convolution with fewer multiplications: Winograd's algorithm (Lavin and Gray, arXiv:1509.09308).

Two rows of two outputs, F(2, 3) by F(2, 3), need 16 products for an input channel instead of 36, and differ from a sum
no more than sums of another order do. Two rows of four, F(2, 3) by F(4, 3), need 24 instead of 72, but have ten times
the errors; F(4, 3) by F(4, 3) would need 36 instead of 144, with five times as large ones again.
"""

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tcm_jax.ops.kernels.emit import (
    COLUMNS,
    LANES,
    ROWS,
    VECTOR,
    Loop,
    copy,
    floats,
    fma,
    function,
    internal,
    load_vector,
    splat,
    store,
    store_vector,
    tile,
    word,
)

CHANNELS = 8  # of a kernel that are transformed at a time
CACHE = 600_000  # bytes of transformed inputs at a time, for a second-level cache


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
        """`table` has the addresses of its pixels; transformed, they go to v + point * stride."""

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
        """Its nine elements, `between` floats apart from `first` on, transformed, go to u + point * stride."""

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
            greater = function(builder, f"llvm.maxnum.v{LANES}f32", VECTOR, VECTOR, VECTOR)
            slope, bias = splat(builder, slope), load_vector(builder, bias, word(0))
            values = [load_vector(builder, m, builder.mul(stride, word(i))) for i in range(points)]
            results = _two_dimensions(builder, row_outputs, outputs, values, 4, columns)
            for target, value in zip(
                _addresses(builder, table, 2 * out_columns), (value for row in results for value in row), strict=True
            ):
                value = builder.fadd(value, bias)
                store_vector(builder, builder.call(greater, [value, builder.fmul(value, slope)]), target, word(0))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.float32, types.int64), emit

    return patch, kernel, products


_patch2, _kernel_of_channel2, _outputs_of_patch2 = _intrinsics(2)
_patch4, _kernel_of_channel4, _outputs_of_patch4 = _intrinsics(4)


@internal
def _whole_vectors(channels):
    return -(-channels // LANES) * LANES


@internal
def points(out_columns):
    """Products that a patch of two rows of outputs takes."""
    return 4 * (out_columns + 2)


@internal
def prepare(part, kernel, channels, features, out_columns, u):
    """Transforms part of a kernel [3, 3, channels, features] to u [points, panels, channels, COLUMNS]."""
    panels = -(-features // COLUMNS)
    for channel in range(part * CHANNELS, min(channels, (part + 1) * CHANNELS)):
        for panel in range(panels):
            first = kernel + 4 * (channel * features + panel * COLUMNS)
            target, stride = u + 4 * (panel * channels + channel) * COLUMNS, panels * channels * COLUMNS
            count = min(COLUMNS, features - panel * COLUMNS)
            if out_columns == 2:
                _kernel_of_channel2(first, channels * features, target, stride, count)
            else:
                _kernel_of_channel4(first, channels * features, target, stride, count)


@internal
def _patches(channels, out_columns):
    """How many at a time."""
    return max(1, min(48, CACHE // (4 * points(out_columns) * _whole_vectors(channels))) // ROWS) * ROWS


@internal
def parts(batch, height, width, channels, out_columns):
    """Into how many parts a call is divided."""
    patches = batch * -(-height // 2) * -(-width // out_columns)
    return -(-patches // _patches(channels, out_columns))


@internal
def scratch(channels, out_columns):
    """Bytes of memory that `convolve` wants."""
    filled, count = _whole_vectors(channels), points(out_columns)
    return 4 * (count * _patches(channels, out_columns) * (filled + COLUMNS) + 2 * filled + 10 * COLUMNS) + 8 * count


@internal
def convolve(part, scratch, x, batch, height, width, channels, u, bias, slope, y, features, factor, out_columns):
    """Part of a convolution with zero padding 1, by addresses of float32 arrays.

    x [batch, height, width, channels], u from `prepare`, bias [panels * COLUMNS], and y [batch, factor * height, factor
    * width, features]: factor**2 * features in all, ordered (row, column, feature); whole vectors, unless factor is 1.
    There are LANES channels or more.
    """
    total, filled = features * factor * factor, _whole_vectors(channels)
    panels, patches, count_points = -(-total // COLUMNS), _patches(channels, out_columns), points(out_columns)
    in_columns = out_columns + 2
    v = scratch  # inputs, transformed
    m = v + 4 * count_points * patches * filled  # their products with the kernel
    zeros = m + 4 * count_points * patches * COLUMNS
    last = zeros + 4 * max(filled, COLUMNS)  # copy of the last pixel, behind which no vector can be read
    results = last + 4 * filled  # of a patch, where they are no whole vector or no part of the map
    table = results + 4 * 8 * LANES
    carray(floats(zeros), (max(filled, COLUMNS),))[:] = 0
    pixels = batch * height * width
    copy(last, x + 4 * (pixels - 1) * channels, 4 * channels)
    rows, columns = -(-height // 2), -(-width // out_columns)
    first = part * patches
    count = min(patches, batch * rows * columns - first)
    for patch in range(count):
        picture = (first + patch) // (rows * columns)
        row, column = (first + patch) // columns % rows * 2 - 1, (first + patch) % columns * out_columns - 1
        for i in range(count_points):
            r, c = row + i // in_columns, column + i % in_columns
            inside, pixel = 0 <= r < height and 0 <= c < width, (picture * height + r) * width + c
            source = last if pixel == pixels - 1 else x + 4 * channels * pixel
            store(table + 8 * i, source if inside else zeros)
        if out_columns == 2:
            _patch2(table, v + 4 * patch * filled, patches * filled, filled)
        else:
            _patch4(table, v + 4 * patch * filled, patches * filled, filled)
    for panel in range(panels):
        for i in range(count_points):
            for patch in range(0, count, ROWS):
                store(table, v + 4 * (i * patches + patch) * filled)
                of_point = u + 4 * (i * panels + panel) * channels * COLUMNS
                to = m + 4 * (i * patches + patch) * COLUMNS
                tile(table, 1, filled, 1, of_point, COLUMNS, channels, zeros, 0, to, COLUMNS)
        for at in range(panel * COLUMNS, min(total, (panel + 1) * COLUMNS), LANES):
            place, feature = at // features, at % features
            valid = min(LANES, total - at)
            for patch in range(count):
                picture = (first + patch) // (rows * columns)
                row, column = (first + patch) // columns % rows * 2, (first + patch) % columns * out_columns
                of_patch = m + 4 * (patch * COLUMNS + at % COLUMNS)
                for i in range(2 * out_columns):
                    r, c = row + i // out_columns, column + i % out_columns
                    up, left = r * factor + place // factor, c * factor + place % factor
                    pixel = (picture * height * factor + up) * width * factor + left
                    whole = r < height and c < width and valid == LANES
                    target = y + 4 * (pixel * features + feature)
                    store(table + 8 * i, target if whole else results + 4 * i * LANES)
                if out_columns == 2:
                    _outputs_of_patch2(of_patch, patches * COLUMNS, bias + 4 * at, slope, table)
                else:
                    _outputs_of_patch4(of_patch, patches * COLUMNS, bias + 4 * at, slope, table)
                if valid < LANES:
                    for i in range(2 * out_columns):
                        r, c = row + i // out_columns, column + i % out_columns
                        if r < height and c < width:
                            pixel = (picture * height + r) * width + c
                            copy(y + 4 * (pixel * features + feature), results + 4 * i * LANES, 4 * valid)
