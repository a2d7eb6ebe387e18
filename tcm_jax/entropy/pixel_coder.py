"""Numba kernels of the residual layer: contexts of pixels, and a range coder (rANS), over `pixel_prediction.py`.

Names of arguments are those of codec/residual/: `coefs`, `weights` and `classes` of `fit.Model`; `vals`, `errs`, `hat`
and `sums` are `fit.buffers`, which go on from one call to the next; `level_of`, `buckets`, `cumulative`, `lowest` and
`escapes` are of `tables.py`. `with_hat` is whether there is an `x_hat`, uint8 [H, W, channels] as the picture.
"""

from numpy import int32, int64, uint8, uint16

from tcm_jax.entropy.pixel_prediction import BLOCK, FRACTION, MARGIN, extend, lattice, load_hat, place, prepare
from tcm_jax.system.machine_code import INTEGER, Array
from tcm_jax.system.object_code import callee, compiled

PHASES = 4  # positions of a prediction between two integers
LEVELS = 26  # contexts by expected error
U_FRACTION = 8  # bits of the activities' weights behind the point
FREQUENCY_BITS = 15  # the frequencies of a table sum to 2**15
BUCKET_BITS = 7  # of a cumulative frequency, which a search within a bucket finds
BUCKETS = 1 << FREQUENCY_BITS - BUCKET_BITS
LEAST = 1 << 16  # a state of the coder lies in [LEAST, LEAST << 16)
ESCAPE_BITS = 9
ESCAPE = 256  # an escaped symbol k is sent as k + ESCAPE
MAX_LEVEL_INDEX = 1023  # of an expected error, in sixteenths of a level
SPARE = 2 * BLOCK + 8  # words behind a stream that a decoder may touch before it notices the end

_FREQUENCIES, _ESCAPES = (1 << FREQUENCY_BITS) - 1, (1 << ESCAPE_BITS) - 1  # masks

OK, PAST_END = 0, 1

_PICTURE = Array(uint8, 3)
_PICTURE_IN = Array(uint8, 3, readonly=True)
_ROWS = Array(int32, 3)
_COEFFICIENTS = Array(int32, 3, readonly=True)
_WEIGHTS = Array(int32, 2, readonly=True)
_BYTES2 = Array(uint8, 2, readonly=True)
_BYTES1 = Array(uint8, 1, readonly=True)
_INTS1 = Array(int32, 1, readonly=True)
_WORDS = Array(uint16, 1, readonly=True)
_WORDS2 = Array(uint16, 2, readonly=True)
_SUMS = Array(int32, 2)
_OUT16 = Array(uint16, 1)


@callee(inline="always")
def _black_or_white(picture, row, column, channels):
    """Whether all channels of a pixel are 0 or all are 255: one step beyond is clipped to that, so it can be exact."""
    first = picture[row, column, 0]
    equal = first == 0 or first == 255
    for channel in range(1, channels):
        equal = equal and picture[row, column, channel] == first
    return equal


@callee(inline="never")
def _decode_row(base, ubase, line, errors, coefs, weights, classes, hat, with_hat, level_of, buckets, cumulative,
                lowest, escapes, words, ch, row, width, step, x, position, limit):  # fmt: skip
    """Decodes one channel of a row to `line`, its errors to `errors`; returns the coder's state and position."""
    v0, v1 = int64(weights[0]), int64(weights[1])
    west, westwest = int64(line[MARGIN - 1]), int64(line[MARGIN - 2])
    e_west, e_westwest = int64(errors[MARGIN - 1]), int64(errors[MARGIN - 2])
    for first in range(0, width, BLOCK):
        w = coefs[classes[first // BLOCK]]
        w0, w1 = int64(w[0]), int64(w[1])
        if row == 0:
            w0, w1 = int64(1 << FRACTION), int64(0)
        for c in range(first, min(first + BLOCK, width)):
            fine = (base[c] + w0 * west + w1 * westwest) >> (FRACTION - 2)
            fine = min(max(fine, 0), 1020)
            whole, phase = lattice(fine, int64(hat[c + MARGIN]), step, with_hat)
            u = min(max((ubase[c] + v0 * e_west + v1 * e_westwest) >> U_FRACTION, 0), MAX_LEVEL_INDEX)
            table = ((ch * LEVELS + level_of[u]) << 2) + phase
            target = x & _FREQUENCIES
            symbol = int64(buckets[table, target >> BUCKET_BITS])
            while cumulative[table, symbol + 1] <= target:
                symbol += 1
            low = int64(cumulative[table, symbol])
            x = (int64(cumulative[table, symbol + 1]) - low) * (x >> FREQUENCY_BITS) + target - low
            if x < LEAST:
                x = (x << 16) | words[position]
                position += 1
            k = symbol + lowest[table]
            if symbol == escapes[table]:
                k = (x & _ESCAPES) - ESCAPE
                x >>= ESCAPE_BITS
                if x < LEAST:
                    x = (x << 16) | words[position]
                    position += 1
            westwest, e_westwest = west, e_west
            west = min(max(whole + k * step, 0), 255)
            e_west = abs(4 * west - fine)
            line[c + MARGIN] = west
            errors[c + MARGIN] = e_west
        if position > limit:
            break
    return x, position


@compiled(_PICTURE, _PICTURE_IN, INTEGER, INTEGER, INTEGER, INTEGER, _ROWS, _ROWS, _ROWS, _SUMS, _COEFFICIENTS,
          _WEIGHTS, _BYTES2, _BYTES1, _BYTES2, _WORDS2, _INTS1, _INTS1, _WORDS)  # fmt: skip
def decode(out, x_hat, with_hat, first, last, step, vals, errs, hat, sums, coefs, weights, classes, level_of, buckets,
           cumulative, lowest, escapes, words):  # fmt: skip
    """Decodes rows first .. last - 1 of `out` (uint8 [H, W, channels]) from `words`: OK or PAST_END.

    `x_hat` may be the same array.
    """
    height, width, channels = out.shape
    base, ubase = sums[0], sums[1]
    x = (int64(words[0]) << 16) | words[1]
    position, limit = int64(2), int64(words.size) - SPARE
    for row in range(first, last):
        if with_hat:
            load_hat(hat, x_hat, row, height, width, channels)
        cur = row % 3
        for ch in range(channels):
            prepare(base, ubase, vals, errs, hat, coefs, weights, classes[row // BLOCK], row, ch, width, with_hat)
            x, position = _decode_row(base, ubase, vals[ch, cur], errs[ch, cur], coefs[ch], weights[ch],
                                      classes[row // BLOCK], hat[ch, cur], with_hat, level_of, buckets,
                                      cumulative, lowest, escapes, words, ch, row, width, step, x, position,
                                      limit)  # fmt: skip
            if position > limit:
                return PAST_END
            line, at = vals[ch, cur], place(ch, channels)
            for c in range(width):
                out[row, c, at] = line[c + MARGIN]
            extend(line, width)
            extend(errs[ch, cur], width)
    return OK if x == LEAST and position == limit else PAST_END


@compiled(_PICTURE, _PICTURE_IN, _PICTURE_IN, INTEGER, INTEGER, INTEGER, INTEGER, _ROWS, _ROWS, _ROWS, _SUMS,
          _COEFFICIENTS, _WEIGHTS, _BYTES2, _BYTES1, Array(int32, 2), Array(uint16, 2))  # fmt: skip
def residuals(out, picture, x_hat, with_hat, first, last, step, vals, errs, hat, sums, coefs, weights, classes,
              level_of, symbols, contexts):  # fmt: skip
    """Symbols and contexts (channel, level, phase) of some rows, [rows * channels, W]; decoded samples to `out`."""
    height, width, channels = picture.shape
    base, ubase = sums[0], sums[1]
    half = step - 1 >> 1
    for row in range(first, last):
        if with_hat:
            load_hat(hat, x_hat, row, height, width, channels)
        cur = row % 3
        for ch in range(channels):
            blocks = classes[row // BLOCK]
            prepare(base, ubase, vals, errs, hat, coefs, weights, blocks, row, ch, width, with_hat)
            line, errors, at = vals[ch, cur], errs[ch, cur], (row - first) * channels + ch
            component = place(ch, channels)
            v0, v1 = int64(weights[ch, 0]), int64(weights[ch, 1])
            for c in range(width):
                w = coefs[ch, blocks[c // BLOCK]]
                w0, w1 = int64(w[0]), int64(w[1])
                if row == 0:
                    w0, w1 = int64(1 << FRACTION), int64(0)
                fine = (base[c] + w0 * line[c + MARGIN - 1] + w1 * line[c + MARGIN - 2]) >> (FRACTION - 2)
                fine = min(max(fine, 0), 1020)
                anchor = int64(hat[ch, cur, c + MARGIN])
                whole, phase = lattice(fine, anchor, step, with_hat)
                if not with_hat:
                    anchor = whole
                u = (ubase[c] + v0 * errors[c + MARGIN - 1] + v1 * errors[c + MARGIN - 2]) >> U_FRACTION
                level = level_of[min(max(u, 0), MAX_LEVEL_INDEX)]
                sample = int64(picture[row, c, component])
                error = sample - anchor
                k = (abs(error) + half) // step
                k = (-k if error < 0 else k) - (whole - anchor) // step
                decoded = min(max(whole + k * step, 0), 255)
                if not with_hat and sample != decoded and _black_or_white(picture, row, c, channels):
                    k += int64(sample > decoded) - int64(sample < decoded)
                    decoded = sample
                line[c + MARGIN] = decoded
                errors[c + MARGIN] = abs(4 * decoded - fine)
                symbols[at, c] = k
                contexts[at, c] = ((ch * LEVELS + level) << 2) + phase
                out[row, c, component] = decoded
            extend(line, width)
            extend(errors, width)
    return 0


@compiled(_OUT16, _INTS1, _WORDS, _WORDS2, _INTS1, _INTS1)
def encode(words, symbols, contexts, cumulative, lowest, escapes):
    """Writes symbols to the end of `words`, 2 a symbol and 2 more at most; returns where they begin.

    rANS is a stack: what is decoded first is encoded last.
    """
    x, position = int64(LEAST), int64(words.size)
    for i in range(symbols.size - 1, -1, -1):
        table = contexts[i]
        symbol = int64(symbols[i]) - lowest[table]
        if symbol < 0 or symbol >= escapes[table]:
            symbol = int64(escapes[table])
            if x >= LEAST << 16 - ESCAPE_BITS:
                position -= 1
                words[position] = x & 0xFFFF
                x >>= 16
            x = (x << ESCAPE_BITS) | (symbols[i] + ESCAPE)
        low = int64(cumulative[table, symbol])
        size = int64(cumulative[table, symbol + 1]) - low
        if x >= size << 32 - FREQUENCY_BITS:
            position -= 1
            words[position] = x & 0xFFFF
            x >>= 16
        x = ((x // size) << FREQUENCY_BITS) + low + x % size
    words[position - 1] = x & 0xFFFF
    words[position - 2] = x >> 16
    return position - 2


def load() -> None:
    """Loads the compiled code, for who wants that done before the first call."""
    for function in (decode, residuals, encode):
        function.load()
