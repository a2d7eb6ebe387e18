"""3x3 convolution with a third of the multiplications: Winograd's F(2, 3) by F(4, 3) (Lavin and Gray, arXiv:1509.09308).

Two rows of four outputs need 24 products for an input channel instead of 72. F(4, 3) in both directions would need 36
for 16 outputs, with errors five times as large.
"""

from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from tcm_jax.kernels.emit import (
    COLUMNS,
    LANES,
    ROWS,
    VECTOR,
    Loop,
    floats,
    fma,
    function,
    load_vector,
    splat,
    store,
    store_vector,
    tile,
    word,
)

OUT_ROWS, OUT_COLUMNS = 2, 4  # outputs of a patch
IN_ROWS, IN_COLUMNS = 4, 6
POINTS = IN_ROWS * IN_COLUMNS
PATCHES = 48  # at a time: their transforms stay in a second-level cache
CHANNELS = 8  # of a kernel that are transformed at a time


def _constant(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [value] * LANES)


def _column_inputs(b, d):
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


def _row_inputs(b, d):
    return [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])]


def _column_kernel(b, k):
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


def _row_kernel(b, k):
    even, odd = b.fmul(_constant(1 / 2), b.fadd(k[0], k[2])), b.fmul(_constant(1 / 2), k[1])
    return [k[0], b.fadd(even, odd), b.fsub(even, odd), k[2]]


def _column_outputs(b, m):
    even1, odd1, even2, odd2 = b.fadd(m[1], m[2]), b.fsub(m[1], m[2]), b.fadd(m[3], m[4]), b.fsub(m[3], m[4])
    return [
        b.fadd(m[0], b.fadd(even1, even2)),
        fma(b, _constant(2.0), odd2, odd1),
        fma(b, _constant(4.0), even2, even1),
        b.fadd(m[5], fma(b, _constant(8.0), odd2, odd1)),
    ]


def _row_outputs(b, m):
    return [b.fadd(m[0], b.fadd(m[1], m[2])), b.fsub(b.fsub(m[1], m[2]), m[3])]


def _addresses(builder, table, count):
    pointer = builder.inttoptr(table, word(0).type.as_pointer())
    return [builder.load(builder.gep(pointer, [word(i)])) for i in range(count)]


@intrinsic
def _transform(_, table, v, stride, channels):
    """One patch's inputs: `table` has the addresses of its 4 x 6 pixels; transformed, they go to v + i * stride."""

    def emit(context, builder, signature, arguments):
        table, v, stride, channels = arguments
        sources = _addresses(builder, table, POINTS)
        with Loop(builder, channels, LANES) as loop:
            pixels = [load_vector(builder, source, loop.i) for source in sources]
            rows = [_column_inputs(builder, pixels[r * IN_COLUMNS :][:IN_COLUMNS]) for r in range(IN_ROWS)]
            for j in range(IN_COLUMNS):
                for r, value in enumerate(_row_inputs(builder, [row[j] for row in rows])):
                    offset = builder.mul(stride, word(r * IN_COLUMNS + j))
                    store_vector(builder, value, v, builder.add(loop.i, offset))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@intrinsic
def _transform_kernel(_, kernel, between, u, stride, features):
    """One channel's kernel: its nine elements, `between` floats apart, transformed, go to u + i * stride."""

    def emit(context, builder, signature, arguments):
        kernel, between, u, stride, features = arguments
        with Loop(builder, features, LANES) as loop:
            places = [builder.add(loop.i, builder.mul(between, word(i))) for i in range(9)]
            taps = [load_vector(builder, kernel, place) for place in places]
            rows = [_column_kernel(builder, taps[3 * r : 3 * r + 3]) for r in range(3)]
            for j in range(IN_COLUMNS):
                for r, value in enumerate(_row_kernel(builder, [row[j] for row in rows])):
                    offset = builder.mul(stride, word(r * IN_COLUMNS + j))
                    store_vector(builder, value, u, builder.add(loop.i, offset))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit


@intrinsic
def _outputs(_, m, stride, table, bias, slope, channels):
    """One patch's outputs from its products at m + i * stride, plus bias, max(x, slope * x), to the 2 x 4 in `table`."""

    def emit(context, builder, signature, arguments):
        m, stride, table, bias, slope, channels = arguments
        greater = function(builder, f"llvm.maxnum.v{LANES}f32", VECTOR, VECTOR, VECTOR)
        targets, slope = _addresses(builder, table, OUT_ROWS * OUT_COLUMNS), splat(builder, slope)
        with Loop(builder, channels, LANES) as loop:
            offsets = [builder.add(loop.i, builder.mul(stride, word(i))) for i in range(POINTS)]
            products = [load_vector(builder, m, offset) for offset in offsets]
            rows = [_column_outputs(builder, products[r * IN_COLUMNS :][:IN_COLUMNS]) for r in range(IN_ROWS)]
            bias = load_vector(builder, bias, loop.i)
            for j in range(OUT_COLUMNS):
                for r, value in enumerate(_row_outputs(builder, [row[j] for row in rows])):
                    value = builder.fadd(value, bias)
                    value = builder.call(greater, [value, builder.fmul(value, slope)])
                    store_vector(builder, value, targets[r * OUT_COLUMNS + j], loop.i)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, types.float32, types.int64), emit


@njit
def prepare(part, kernel, channels, features, u):
    """Transforms part of a kernel [3, 3, channels, features] to u [POINTS, panels, channels, COLUMNS]."""
    panels = -(-features // COLUMNS)
    for channel in range(part * CHANNELS, min(channels, (part + 1) * CHANNELS)):
        for panel in range(panels):
            first = kernel + 4 * (channel * features + panel * COLUMNS)
            target = u + 4 * (panel * channels + channel) * COLUMNS
            count = min(COLUMNS, features - panel * COLUMNS)
            _transform_kernel(first, channels * features, target, panels * channels * COLUMNS, count)


@njit
def parts(batch, height, width):
    """Into how many parts a call is divided."""
    patches = batch * -(-height // OUT_ROWS) * -(-width // OUT_COLUMNS)
    return -(-patches // PATCHES)


@njit
def scratch(channels):
    """Bytes of memory that `convolve` wants."""
    return 4 * (POINTS * PATCHES * (channels + COLUMNS) + max(channels, COLUMNS) + COLUMNS) + 8 * POINTS


@njit
def convolve(part, scratch, x, batch, height, width, channels, u, bias, slope, y, features, factor):
    """Part of a convolution with zero padding 1, by addresses of float32 arrays.

    x [batch, height, width, channels], u from `prepare`, bias [panels * COLUMNS], and y
    [batch, factor * height, factor * width, features]: factor**2 * features in all, ordered (row, column, feature).
    Channels and features are multiples of LANES.
    """
    total = features * factor * factor
    panels = -(-total // COLUMNS)
    v = scratch  # inputs, transformed
    m = v + 4 * POINTS * PATCHES * channels  # their products with the kernel
    zeros = m + 4 * POINTS * PATCHES * COLUMNS
    outside = zeros + 4 * max(channels, COLUMNS)  # where outputs beyond the map go
    table = outside + 4 * COLUMNS
    carray(floats(zeros), (max(channels, COLUMNS),))[:] = 0
    rows, columns = -(-height // OUT_ROWS), -(-width // OUT_COLUMNS)
    first = part * PATCHES
    count = min(PATCHES, batch * rows * columns - first)
    for patch in range(count):
        picture = (first + patch) // (rows * columns)
        row, column = (first + patch) // columns % rows * OUT_ROWS - 1, (first + patch) % columns * OUT_COLUMNS - 1
        for i in range(POINTS):
            r, c = row + i // IN_COLUMNS, column + i % IN_COLUMNS
            inside = 0 <= r < height and 0 <= c < width
            pixel = (picture * height + r) * width + c
            store(table + 8 * i, x + 4 * channels * pixel if inside else zeros)
        _transform(table, v + 4 * patch * channels, PATCHES * channels, channels)
    for panel in range(panels):
        for i in range(POINTS):
            for patch in range(0, count, ROWS):
                store(table, v + 4 * (i * PATCHES + patch) * channels)
                of_point = u + 4 * (i * panels + panel) * channels * COLUMNS
                to = m + 4 * (i * PATCHES + patch) * COLUMNS
                tile(table, 1, channels, 1, of_point, COLUMNS, channels, zeros, 0, to, COLUMNS)
        for at in range(panel * COLUMNS, min(total, (panel + 1) * COLUMNS), LANES):
            place, feature = at // features, at % features
            for patch in range(count):
                picture = (first + patch) // (rows * columns)
                row, column = (first + patch) // columns % rows * OUT_ROWS, (first + patch) % columns * OUT_COLUMNS
                for i in range(OUT_ROWS * OUT_COLUMNS):
                    r, c = row + i // OUT_COLUMNS, column + i % OUT_COLUMNS
                    up, left = r * factor + place // factor, c * factor + place % factor
                    pixel = (picture * height * factor + up) * width * factor + left
                    inside = r < height and c < width
                    store(table + 8 * i, y + 4 * (pixel * features + feature) if inside else outside)
                of_patch = m + 4 * (patch * COLUMNS + at % COLUMNS)
                _outputs(of_patch, PATCHES * COLUMNS, table, bias + 4 * at, slope, LANES)
