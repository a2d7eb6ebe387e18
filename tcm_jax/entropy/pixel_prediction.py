"""Numba functions of the residual layer's prediction: of samples, and of the errors that choose their contexts.

docs/residual.md specifies the arithmetic: integers alone, so that every machine computes the same. Rows of samples lie
in buffers with MARGIN columns on either side, three rows a channel: the current row r at r % 3.
"""

from numpy import int64

from tcm_jax.system.object_code import callee

MARGIN = 4  # columns of a buffer beside the picture
X, W, E, EE = MARGIN, MARGIN - 1, MARGIN + 1, MARGIN + 2  # places of column 0 and its neighbours in a buffer
BLOCK = 16  # pixels a side that share their predictors
# (row, column) of each tap beside the sample: of its channel, of each of two channels before it, of x_hat; then BIAS
OWN_TAPS = ((0, -1), (0, -2), (-1, 0), (-1, -1), (-1, 1), (-2, 0), (-2, 1), (-2, -1), (-1, 2))
REFERENCE_TAPS = ((0, 0), (0, -1), (0, 1), (-1, 0), (-1, -1), (-1, 1))
HAT_TAPS = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
FIRST_HAT_TAP = len(OWN_TAPS) + 2 * len(REFERENCE_TAPS)
TAPS = FIRST_HAT_TAP + len(HAT_TAPS) + 1
FRACTION = 8  # bits of a predictor's coefficients behind the point
BIAS = 16  # the constant that the last tap multiplies
ACTIVITIES = 14  # what the expected error is a sum of


_callee = callee(inline="never")


@_callee
def place(channel, channels):
    """Where a channel, in the order of coding, stands in a pixel: green, red, blue."""
    return (1, 0, 2)[channel] if channels == 3 else channel


@_callee
def extend(row, width):
    """Repeats the first and the last sample into the padding."""
    for i in range(MARGIN):
        row[i] = row[MARGIN]
        row[MARGIN + width + i] = row[MARGIN + width - 1]


@_callee
def _predict(base, up, upup, a, a_up, b, b_up, x_up, x, x_down, w, first, last, references, with_hat):
    """What the taps that are known before a row is decoded add up to, for columns first .. last - 1, to `base`."""
    n = last - first
    base, up1, up2 = base[first:last], up[first : last + 2 * MARGIN], upup[first : last + 2 * MARGIN]
    w2, w3, w4, w5, w6, w7, w8 = w[2], w[3], w[4], w[5], w[6], w[7], w[8]
    bias = w[TAPS - 1] * BIAS + (1 << FRACTION - 3)
    for c in range(n):
        base[c] = (bias + w2 * up1[c + X] + w3 * up1[c + W] + w4 * up1[c + E] + w5 * up2[c + X] + w6 * up2[c + E]
                   + w7 * up2[c + W] + w8 * up1[c + EE])  # fmt: skip
    if references > 0:
        p, q = a[first : last + 2 * MARGIN], a_up[first : last + 2 * MARGIN]
        w2, w3, w4, w5, w6, w7 = w[9], w[10], w[11], w[12], w[13], w[14]
        for c in range(n):
            base[c] += w2 * p[c + X] + w3 * p[c + W] + w4 * p[c + E] + w5 * q[c + X] + w6 * q[c + W] + w7 * q[c + E]
    if references > 1:
        p, q = b[first : last + 2 * MARGIN], b_up[first : last + 2 * MARGIN]
        w2, w3, w4, w5, w6, w7 = w[15], w[16], w[17], w[18], w[19], w[20]
        for c in range(n):
            base[c] += w2 * p[c + X] + w3 * p[c + W] + w4 * p[c + E] + w5 * q[c + X] + w6 * q[c + W] + w7 * q[c + E]
    if with_hat:
        p, q, s = x[first : last + 2 * MARGIN], x_up[first : last + 2 * MARGIN], x_down[first : last + 2 * MARGIN]
        w2, w3, w4, w5, w6 = w[21], w[22], w[23], w[24], w[25]
        for c in range(n):
            base[c] += w2 * p[c + X] + w3 * p[c + W] + w4 * p[c + E] + w5 * q[c + X] + w6 * s[c + X]


@_callee
def _expect(ubase, e_up, e_upup, ea, eb, up, a, x_up, x, x_down, v, width, references, with_hat):
    """What the activities that are known before a row is decoded add up to, to `ubase`."""
    v2, v3, v4, v5, v11, bias = v[2], v[3], v[4], v[5], v[11], v[13] * BIAS
    for c in range(width):
        gradient = abs(up[c + X] - up[c + W]) + abs(up[c + X] - up[c + E])
        ubase[c] = (bias + v2 * e_up[c + X] + v3 * e_up[c + W] + v4 * e_up[c + E] + v5 * e_upup[c + X]
                    + v11 * gradient)  # fmt: skip
    if references > 0:
        v2, v3, v4 = v[6], v[7], v[12]
        for c in range(width):
            gradient = abs(a[c + X] - a[c + W]) + abs(a[c + X] - a[c + E])
            ubase[c] += v2 * ea[c + X] + v3 * (ea[c + W] + ea[c + E]) + v4 * gradient
    if references > 1:
        v2, v3 = v[8], v[9]
        for c in range(width):
            ubase[c] += v2 * eb[c + X] + v3 * (eb[c + W] + eb[c + E])
    if with_hat:
        v2 = v[10]
        for c in range(width):
            ubase[c] += v2 * (abs(x[c + W] - x[c + E]) + abs(x_up[c + X] - x_down[c + X]))


@callee(inline="always")
def lattice(fine, anchor, step, with_hat):
    """(the decodable value at or below a prediction in quarters, where in fourths of a step that lies above it).

    What can be decoded is a whole number of steps from x_hat; without x_hat, from the prediction itself.
    """
    if step == 1:
        return fine >> 2, fine & 3
    if not with_hat:
        return (fine + 2) >> 2, int64(0)
    steps = (fine - 4 * anchor) // (4 * step)
    return anchor + steps * step, (fine - 4 * anchor - 4 * step * steps) // step


@_callee
def load_hat(hat, x_hat, row, height, width, channels):
    """Puts the row of x_hat below row `row` into its place in the buffer; before the first row the two others, too."""
    for loaded in range(row + 1 if row else -1, row + 2):
        source = min(max(loaded, 0), height - 1)
        for ch in range(channels):
            line, at = hat[ch, (loaded + 3) % 3], place(ch, channels)
            for c in range(width):
                line[c + MARGIN] = x_hat[source, c, at]
            extend(line, width)


@_callee
def _first_row(base, a, x, references, width, with_hat):
    """Puts to `base` what predicts row 0 beside the sample on the left: how x_hat or the channel before changes."""
    for c in range(width):
        base[c] = 1 << FRACTION - 3
        if with_hat:
            base[c] += (x[c + MARGIN] - x[c + MARGIN - 1]) << FRACTION
        elif references > 0:
            base[c] += (a[c + MARGIN] - a[c + MARGIN - 1]) << FRACTION


@_callee
def prepare(base, ubase, vals, errs, hat, coefs, weights, classes, row, ch, width, with_hat):
    """Computes the sums for one channel of a row: everything that does not wait for the sample on the left."""
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
