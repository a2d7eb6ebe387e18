"""Numba kernels of the range coder: intervals, carry and escapes; `coders.py` alone imports this module.

The arithmetic is tensorflow-compression's (docs/range_coder.md). Every integer is int64: Numba turns a mix of int64 and
uint64 into float64, and no product here exceeds 2**48.
"""

from numpy import int32, int64, uint8, uint16, uint64

from tcm_jax.entropy.range_tables import BUCKET_BITS, MAX_SYMBOL, PRECISION
from tcm_jax.system.machine_code import Array
from tcm_jax.system.object_code import callee, compiled

MASK = 0xFFFFFFFF
MAX_ESCAPE_ZEROS = 31
MAX_OVERREAD = 256  # bytes of zeros past the end; chance makes an encoder drop more than 64 once in 2**480 streams
ESCAPE_WORDS = 8  # of 16 bits: more than any symbol takes

OK, PAST_END, BAD_ESCAPE, BAD_INDEX = 0, 1, 2, 3

_INTS = Array(int32, 1, readonly=True)
_WORDS = Array(uint16, 1, readonly=True)
_BUCKETS = Array(uint16, 2, readonly=True)
_OUT32 = Array(int32, 1)
_OUT64 = Array(int64, 1)
_OUT8 = Array(uint8, 1)


_inlined = callee(inline="always")  # a call would give its results through memory, at every symbol


@_inlined
def _narrow(base, last, delay, out, position, lower, upper, precision):
    """Encode one interval; the range is [base, base + last], of size last + 1; `delay` is what a carry may change.

    The low 16 bits of `delay` are the two bytes held back (plus one), the rest counts the zero bytes behind them.
    """
    size = last + 1
    low = (size * lower) >> precision
    last = ((size * upper) >> precision) - 1 - low
    carried = base + low > MASK
    base = (base + low) & MASK
    if base + last > MASK:  # the interval still straddles the carry
        if last < 0x10000:
            base = (base << 16) & MASK
            last = (last << 16) | 0xFFFF
            delay += 0x20000
        return base, last, delay, position
    if delay:
        held = delay & 0xFFFF
        fill = 0
        if not carried:
            held -= 1
            fill = 0xFF
        out[position] = held >> 8
        out[position + 1] = held & 0xFF
        position += 2
        for _ in range(delay >> 16):
            out[position] = fill
            position += 1
        delay = 0
    # Written first and kept only if the range became small: whether it did is a coin flip no processor predicts.
    small = int64(last < 0x10000)
    head = base >> 16
    out[position] = head >> 8
    out[position + 1] = head & 0xFF
    position += small << 1
    base = (base << (small << 4)) & MASK
    last = ((last + 1) << (small << 4)) - 1
    if base + last > MASK:
        position -= 2
        delay = head + 1
    return base, last, delay, position


@compiled(_OUT8, _OUT64, _INTS, _INTS, _INTS, _INTS, _INTS, _INTS)
def encode(out, state, lookup, starts, sizes, offsets, indexes, symbols):
    """Append symbols to the stream; returns the number of bytes written to `out`.

    `state` is (base, last, delay). `out` must hold 10 bytes a symbol, 2 more, and those that `state` holds back.
    """
    base, last, delay = state[0], state[1], state[2]
    position = 0
    for i in range(indexes.size):
        table = indexes[i]
        escape = int64(sizes[table])
        value = int64(symbols[i]) - offsets[table]
        symbol = value
        if value < 0 or value >= escape:
            symbol = escape
        at = starts[table] + symbol
        base, last, delay, position = _narrow(base, last, delay, out, position, lookup[at], lookup[at + 1], PRECISION)
        if symbol == escape:
            gamma = -value if value < 0 else value - escape + 1
            bits = 0
            while gamma >> (bits + 1):
                base, last, delay, position = _narrow(base, last, delay, out, position, 0, 1, 1)
                bits += 1
            code = (gamma << 1) | (value < 0)
            for shift in range(bits + 1, -1, -1):
                bit = (code >> shift) & 1
                base, last, delay, position = _narrow(base, last, delay, out, position, bit, bit + 1, 1)
    state[0], state[1], state[2] = base, last, delay
    return position


@_inlined
def _widen(base, last, value, position, word):
    """Shift the next word of the stream in when the range has become small."""
    if last < 0x10000:
        base = (base << 16) & MASK
        last = (last << 16) | 0xFFFF
        value = ((value << 16) & MASK) | word
        position += 1
    return base, last, value, position


@_inlined
def _bit(base, last, value, position, word):
    half = (last + 1) >> 1
    bit = 1 if (value - base) & MASK >= half else 0
    if bit:
        base = (base + half) & MASK
        last -= half
    else:
        last = half - 1
    base, last, value, position = _widen(base, last, value, position, word)
    return bit, base, last, value, position


@compiled(_OUT32, _OUT64, _WORDS, _INTS, _INTS, _INTS, _INTS, _INTS, _BUCKETS, _INTS)
def decode(out, state, words, lookup, starts, sizes, offsets, likeliest, buckets, indexes):
    """Fill `out` with the next symbols; returns OK, PAST_END, BAD_ESCAPE or, for an index of no table, BAD_INDEX.

    `words` is the stream by 16 bits, then zeros, of which the last ESCAPE_WORDS are never a symbol's first; `state` is
    (base, last, value, words read). The symbol `likeliest[table]` is tried first: on a guess that mostly holds the
    processor goes on where a division would keep it waiting. A search for `t` begins at
    `buckets[table, t >> BUCKET_BITS]`.
    """
    base, last, value, position = state[0], state[1], state[2], state[3]
    limit, tables = words.size - ESCAPE_WORDS, uint64(sizes.size)
    for i in range(indexes.size):
        if position > limit:
            return PAST_END
        table = uint64(indexes[i])
        if table >= tables:
            return BAD_INDEX
        start = int64(starts[table])
        size = last + 1
        ahead = (value - base) & MASK
        symbol = int64(likeliest[table])
        low = (size * lookup[start + symbol]) >> PRECISION
        high = (size * lookup[start + symbol + 1]) >> PRECISION
        if ahead < low or ahead >= high:
            # Below 2**48 over at most 2**32: the float64 quotient, below 2**16, is never rounded up to an integer.
            target = int64((((ahead + 1) << PRECISION) - 1) / size)
            symbol = int64(buckets[table, target >> BUCKET_BITS])
            while lookup[start + symbol + 1] <= target:
                symbol += 1
            low = (size * lookup[start + symbol]) >> PRECISION
            high = (size * lookup[start + symbol + 1]) >> PRECISION
        base, last, value, position = _widen((base + low) & MASK, high - 1 - low, value, position, words[position])
        if symbol == sizes[table]:
            zeros = 0
            bit, base, last, value, position = _bit(base, last, value, position, words[position])
            while bit == 0:
                zeros += 1
                if zeros > MAX_ESCAPE_ZEROS:
                    return BAD_ESCAPE
                bit, base, last, value, position = _bit(base, last, value, position, words[position])
            gamma = int64(1)
            for _ in range(zeros):
                bit, base, last, value, position = _bit(base, last, value, position, words[position])
                gamma = (gamma << 1) | bit
            negative, base, last, value, position = _bit(base, last, value, position, words[position])
            symbol = -gamma if negative else gamma + symbol - 1
        symbol += offsets[table]
        if symbol > MAX_SYMBOL or symbol < -MAX_SYMBOL:
            return BAD_ESCAPE
        out[i] = symbol
    state[0], state[1], state[2], state[3] = base, last, value, position
    return PAST_END if position > limit else OK
