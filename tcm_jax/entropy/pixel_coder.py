"""Numba kernels of the residual layer: linear prediction of pixels, contexts from errors, and a range coder (rANS).

docs/residual.md specifies the arithmetic: integers alone, so that every machine computes the same. Rows of samples lie
in buffers with MARGIN columns on either side, three rows a channel: the current row r at r % 3.
"""

from numpy import int32, int64, uint8, uint16

from tcm_jax.system.machine_code import INTEGER, Array
from tcm_jax.system.objects import kept, part

MARGIN = 4  # columns of a buffer beside the picture
BLOCK = 16  # pixels a side that share their predictors
TAPS = 27  # W WW | N NW NE NN NNE NNW NEE | C W E N NW NE of the channel before | of the one before that | ...
FRACTION = 8  # bits of a predictor's coefficients behind the point
BIAS = 16  # the constant that the last tap multiplies
ACTIVITIES = 14  # what the expected error is a sum of
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


_part = part(inline="never")


@_part
def _place(channel, channels):
    """Where a channel, in the order of coding, stands in a pixel: green, red, blue."""
    return (1, 0, 2)[channel] if channels == 3 else channel


@_part
def _extend(row, width):
    """Repeats the first and the last sample into the padding."""
    for i in range(MARGIN):
        row[i] = row[MARGIN]
        row[MARGIN + width + i] = row[MARGIN + width - 1]


@_part
def _predict(base, up, upup, a, a_up, b, b_up, x_up, x, x_down, w, first, last, references, with_hat):
    """What the taps that are known before a row is decoded add up to, for columns first .. last - 1, to `base`."""
    n = last - first
    base, up1, up2 = base[first:last], up[first : last + 2 * MARGIN], upup[first : last + 2 * MARGIN]
    w2, w3, w4, w5, w6, w7, w8 = w[2], w[3], w[4], w[5], w[6], w[7], w[8]
    bias = w[26] * BIAS + (1 << FRACTION - 3)
    for c in range(n):
        base[c] = (bias + w2 * up1[c + 4] + w3 * up1[c + 3] + w4 * up1[c + 5] + w5 * up2[c + 4] + w6 * up2[c + 5]
                   + w7 * up2[c + 3] + w8 * up1[c + 6])  # fmt: skip
    if references > 0:
        p, q = a[first : last + 2 * MARGIN], a_up[first : last + 2 * MARGIN]
        w2, w3, w4, w5, w6, w7 = w[9], w[10], w[11], w[12], w[13], w[14]
        for c in range(n):
            base[c] += w2 * p[c + 4] + w3 * p[c + 3] + w4 * p[c + 5] + w5 * q[c + 4] + w6 * q[c + 3] + w7 * q[c + 5]
    if references > 1:
        p, q = b[first : last + 2 * MARGIN], b_up[first : last + 2 * MARGIN]
        w2, w3, w4, w5, w6, w7 = w[15], w[16], w[17], w[18], w[19], w[20]
        for c in range(n):
            base[c] += w2 * p[c + 4] + w3 * p[c + 3] + w4 * p[c + 5] + w5 * q[c + 4] + w6 * q[c + 3] + w7 * q[c + 5]
    if with_hat:
        p, q, s = x[first : last + 2 * MARGIN], x_up[first : last + 2 * MARGIN], x_down[first : last + 2 * MARGIN]
        w2, w3, w4, w5, w6 = w[21], w[22], w[23], w[24], w[25]
        for c in range(n):
            base[c] += w2 * p[c + 4] + w3 * p[c + 3] + w4 * p[c + 5] + w5 * q[c + 4] + w6 * s[c + 4]


@_part
def _expect(ubase, e_up, e_upup, ea, eb, up, a, x_up, x, x_down, v, width, references, with_hat):
    """What the activities that are known before a row is decoded add up to, to `ubase`."""
    v2, v3, v4, v5, v11, bias = v[2], v[3], v[4], v[5], v[11], v[13] * BIAS
    for c in range(width):
        gradient = abs(up[c + 4] - up[c + 3]) + abs(up[c + 4] - up[c + 5])
        ubase[c] = (bias + v2 * e_up[c + 4] + v3 * e_up[c + 3] + v4 * e_up[c + 5] + v5 * e_upup[c + 4]
                    + v11 * gradient)  # fmt: skip
    if references > 0:
        v2, v3, v4 = v[6], v[7], v[12]
        for c in range(width):
            gradient = abs(a[c + 4] - a[c + 3]) + abs(a[c + 4] - a[c + 5])
            ubase[c] += v2 * ea[c + 4] + v3 * (ea[c + 3] + ea[c + 5]) + v4 * gradient
    if references > 1:
        v2, v3 = v[8], v[9]
        for c in range(width):
            ubase[c] += v2 * eb[c + 4] + v3 * (eb[c + 3] + eb[c + 5])
    if with_hat:
        v2 = v[10]
        for c in range(width):
            ubase[c] += v2 * (abs(x[c + 3] - x[c + 5]) + abs(x_up[c + 4] - x_down[c + 4]))


@part(inline="always")
def _black_or_white(picture, row, column, channels):
    """Whether a pixel is. One step beyond such a sample is clipped to it, so it can be exact with every step."""
    first = picture[row, column, 0]
    equal = first == 0 or first == 255
    for channel in range(1, channels):
        equal = equal and picture[row, column, channel] == first
    return equal


@part(inline="always")
def _lattice(fine, anchor, step, with_hat):
    """(the decodable value at or below a prediction in quarters, where in fourths of a step that lies above it).

    What can be decoded is a whole number of steps from x_hat; without x_hat, from the prediction itself.
    """
    if step == 1:
        return fine >> 2, fine & 3
    if not with_hat:
        return (fine + 2) >> 2, int64(0)
    steps = (fine - 4 * anchor) // (4 * step)
    return anchor + steps * step, (fine - 4 * anchor - 4 * step * steps) // step


@_part
def _load_hat(hat, x_hat, row, height, width, channels):
    """Puts the row of x_hat below row `row` into its place in the buffer; before the first row the two others, too."""
    for loaded in range(row + 1 if row else -1, row + 2):
        source = min(max(loaded, 0), height - 1)
        for ch in range(channels):
            line, at = hat[ch, (loaded + 3) % 3], _place(ch, channels)
            for c in range(width):
                line[c + MARGIN] = x_hat[source, c, at]
            _extend(line, width)


@_part
def _first_row(base, a, x, references, width, with_hat):
    """The first row is predicted by the sample on the left, and what x_hat or the channel before changes from there."""
    for c in range(width):
        base[c] = 1 << FRACTION - 3
        if with_hat:
            base[c] += (x[c + MARGIN] - x[c + MARGIN - 1]) << FRACTION
        elif references > 0:
            base[c] += (a[c + MARGIN] - a[c + MARGIN - 1]) << FRACTION


@_part
def _prepare(base, ubase, vals, errs, hat, coefs, weights, classes, row, ch, width, with_hat):
    """Sums for one channel of a row; everything that does not wait for the sample on the left."""
    cur, up, upup = row % 3, (row + 2) % 3, (row + 1) % 3
    a, b = max(ch - 1, 0), max(ch - 2, 0)
    first = 0
    if row == 0:
        _first_row(base, vals[a, cur], hat[ch, cur], ch, width, with_hat)
        first = width
    while first < width:  # neighbouring blocks with the same predictors at once
        k = classes[first // BLOCK]
        last = first + BLOCK
        while last < width and classes[last // BLOCK] == k:
            last += BLOCK
        last = min(last, width)
        _predict(base, vals[ch, up], vals[ch, upup], vals[a, cur], vals[a, up], vals[b, cur], vals[b, up],
                 hat[ch, up], hat[ch, cur], hat[ch, upup], coefs[ch, k], first, last, ch, with_hat)  # fmt: skip
        first = last
    _expect(ubase, errs[ch, up], errs[ch, upup], errs[a, cur], errs[b, cur], vals[ch, up], vals[a, cur],
            hat[ch, up], hat[ch, cur], hat[ch, upup], weights[ch], width, ch, with_hat)  # fmt: skip
    vals[ch, cur, MARGIN - 1] = vals[ch, cur, MARGIN - 2] = vals[ch, up, MARGIN]
    errs[ch, cur, MARGIN - 1] = errs[ch, cur, MARGIN - 2] = errs[ch, up, MARGIN]


@_part
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
            whole, phase = _lattice(fine, int64(hat[c + MARGIN]), step, with_hat)
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


@kept(_PICTURE, _PICTURE_IN, INTEGER, INTEGER, INTEGER, INTEGER, _ROWS, _ROWS, _ROWS, _SUMS, _COEFFICIENTS, _WEIGHTS,
      _BYTES2, _BYTES1, _BYTES2, _WORDS2, _INTS1, _INTS1, _WORDS)  # fmt: skip
def decode(out, x_hat, with_hat, first, last, step, vals, errs, hat, sums, coefs, weights, classes, level_of, buckets,
           cumulative, lowest, escapes, words):  # fmt: skip
    """Decodes rows first .. last - 1 of `out` ([H, W, channels]) from `words`; x_hat may be the same array."""
    height, width, channels = out.shape
    base, ubase = sums[0], sums[1]
    x = (int64(words[0]) << 16) | words[1]
    position, limit = int64(2), int64(words.size) - SPARE
    for row in range(first, last):
        if with_hat:
            _load_hat(hat, x_hat, row, height, width, channels)
        cur = row % 3
        for ch in range(channels):
            _prepare(base, ubase, vals, errs, hat, coefs, weights, classes[row // BLOCK], row, ch, width, with_hat)
            x, position = _decode_row(base, ubase, vals[ch, cur], errs[ch, cur], coefs[ch], weights[ch],
                                      classes[row // BLOCK], hat[ch, cur], with_hat, level_of, buckets,
                                      cumulative, lowest, escapes, words, ch, row, width, step, x, position,
                                      limit)  # fmt: skip
            if position > limit:
                return PAST_END
            line, at = vals[ch, cur], _place(ch, channels)
            for c in range(width):
                out[row, c, at] = line[c + MARGIN]
            _extend(line, width)
            _extend(errs[ch, cur], width)
    return OK if x == LEAST and position == limit else PAST_END


@kept(_PICTURE, _PICTURE_IN, _PICTURE_IN, INTEGER, INTEGER, INTEGER, INTEGER, _ROWS, _ROWS, _ROWS, _SUMS,
      _COEFFICIENTS, _WEIGHTS, _BYTES2, _BYTES1, Array(int32, 2), Array(uint16, 2))  # fmt: skip
def residuals(out, picture, x_hat, with_hat, first, last, step, vals, errs, hat, sums, coefs, weights, classes,
              level_of, symbols, contexts):  # fmt: skip
    """Symbols and contexts (channel, level, phase) of some rows, [rows * channels, W]; decoded samples to `out`."""
    height, width, channels = picture.shape
    base, ubase = sums[0], sums[1]
    half = step - 1 >> 1
    for row in range(first, last):
        if with_hat:
            _load_hat(hat, x_hat, row, height, width, channels)
        cur = row % 3
        for ch in range(channels):
            blocks = classes[row // BLOCK]
            _prepare(base, ubase, vals, errs, hat, coefs, weights, blocks, row, ch, width, with_hat)
            line, errors, at = vals[ch, cur], errs[ch, cur], (row - first) * channels + ch
            place = _place(ch, channels)
            v0, v1 = int64(weights[ch, 0]), int64(weights[ch, 1])
            for c in range(width):
                w = coefs[ch, blocks[c // BLOCK]]
                w0, w1 = int64(w[0]), int64(w[1])
                if row == 0:
                    w0, w1 = int64(1 << FRACTION), int64(0)
                fine = (base[c] + w0 * line[c + MARGIN - 1] + w1 * line[c + MARGIN - 2]) >> (FRACTION - 2)
                fine = min(max(fine, 0), 1020)
                anchor = int64(hat[ch, cur, c + MARGIN])
                whole, phase = _lattice(fine, anchor, step, with_hat)
                if not with_hat:
                    anchor = whole
                u = (ubase[c] + v0 * errors[c + MARGIN - 1] + v1 * errors[c + MARGIN - 2]) >> U_FRACTION
                level = level_of[min(max(u, 0), MAX_LEVEL_INDEX)]
                sample = int64(picture[row, c, place])
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
                out[row, c, place] = decoded
            _extend(line, width)
            _extend(errors, width)
    return 0


@kept(_OUT16, _INTS1, _WORDS, _WORDS2, _INTS1, _INTS1)
def encode(words, symbols, contexts, cumulative, lowest, escapes):
    """Writes symbols to the end of `words`, 2 a symbol and 2 more at most; returns where they begin."""
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
