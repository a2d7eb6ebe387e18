"""Functions of each value: GELU, ReLU, sigmoid, tanh, exp and log, with the same results on every machine and JAX."""

import math

from numba import float32

from tcm_jax.ops.kernels.emit import copy, internal
from tcm_jax.ops.kernels.machine import STEP
from tcm_jax.ops.kernels.vectors import (
    everywhere,
    exponent,
    floor,
    fma,
    get,
    maximum,
    minimum,
    power_of_two,
    put,
    zero_below,
)
from tcm_jax.ops.kernels.xla import argument, argument_size, attribute, places, result

GELU, GATE, TANH, EXP, LOG, MULTIPLY_ADD, RELU, SUM_RELU = range(8)
VALUES = 1 << 13  # of one part
_FUNCTION = places("function")[0]


@internal
def _next(value, x, coefficient):
    """value * x + coefficient: a step of Horner's rule."""
    return fma(value, x, everywhere(float32(coefficient)))


@internal
def exp(x):
    """e**x within two units in the last place, for x from -87 to 88 (others count as these): Cephes' polynomial."""
    x = minimum(maximum(x, everywhere(float32(-87.0))), everywhere(float32(88.0)))
    exponent = floor(_next(x, everywhere(float32(1.44269504)), 0.5))
    x = fma(exponent, everywhere(float32(-0.693359375)), x)
    x = fma(exponent, everywhere(float32(2.12194440e-4)), x)
    p = everywhere(float32(1.9875691500e-4))
    p = _next(p, x, 1.3981999507e-3)
    p = _next(p, x, 8.3334519073e-3)
    p = _next(p, x, 4.1665795894e-2)
    p = _next(p, x, 1.6666665459e-1)
    p = _next(p, x, 5.0000001201e-1)
    return (fma(p, x * x, x) + everywhere(float32(1.0))) * power_of_two(exponent)


@internal
def log(x):
    """The natural logarithm within two units in the last place, of positive normal x: Cephes' polynomial."""
    power = exponent(x * everywhere(float32(math.sqrt(2))))
    x = x * power_of_two(everywhere(float32(0)) - power) - everywhere(float32(1))  # from -0.3 to 0.4
    p = everywhere(float32(7.0376836292e-2))
    p = _next(p, x, -1.1514610310e-1)
    p = _next(p, x, 1.1676998740e-1)
    p = _next(p, x, -1.2420140846e-1)
    p = _next(p, x, 1.4249322787e-1)
    p = _next(p, x, -1.6668057665e-1)
    p = _next(p, x, 2.0000714765e-1)
    p = _next(p, x, -2.4999993993e-1)
    p = _next(p, x, 3.3333331174e-1)
    p = fma(everywhere(float32(-2.12194440e-4)), power, p * (x * x) * x)
    p = fma(everywhere(float32(-0.5)), x * x, p)
    return fma(everywhere(float32(0.693359375)), power, x + p)


@internal
def _erf(x):
    """The error function within a few units in the last place: the rational approximation of Eigen and XLA."""
    end = everywhere(float32(3.832506856900711))
    x = minimum(maximum(x, everywhere(float32(-3.832506856900711))), end)
    t = x * x
    p = everywhere(float32(0.00022905065861350646))
    p = _next(p, t, 0.0034082910107109506)
    p = _next(p, t, 0.050955695062380861)
    p = _next(p, t, 0.18520832239976145)
    p = _next(p, t, 1.128379143519084)
    q = everywhere(float32(-1.1791602954361697e-7))
    q = _next(q, t, 0.000023547966471313185)
    q = _next(q, t, 0.0010179625278914885)
    q = _next(q, t, 0.014070470171167667)
    q = _next(q, t, 0.11098505178285362)
    q = _next(q, t, 0.49746925110067538)
    q = _next(q, t, 1.0)
    return x * p / q


@internal
def gelu(x):
    """x times the normal distribution function of x, of a vector."""
    half = everywhere(float32(0.5)) * x
    return fma(half, _erf(x * everywhere(float32(math.sqrt(0.5)))), half)


@internal
def gelu_and_slope(x):
    """(`gelu`, its derivative) of a vector."""
    half, minus_half = everywhere(float32(0.5)), everywhere(float32(-0.5))
    density = exp(minus_half * x * x) * everywhere(float32(1 / math.sqrt(2 * math.pi)))
    share = fma(half, _erf(x * everywhere(float32(math.sqrt(0.5)))), half)
    return x * share, fma(x, density, share)


@internal
def _value(function, x, y, z):
    zero = everywhere(float32(0))
    if function == GELU:
        return gelu(x)
    if function == GATE:
        up, down = exp(minimum(y, zero)), exp(minimum(zero - y, zero))
        return fma(x, up / (up + down), z)
    if function == TANH:
        up, down = exp(minimum(x + x, zero)), exp(minimum(zero - x - x, zero))
        return (up - down) / (up + down)
    if function == LOG:
        return log(x)
    if function == MULTIPLY_ADD:
        return fma(x, y, z)
    if function == RELU:
        return zero_below(x)
    if function == SUM_RELU:
        return zero_below(x + y)
    return exp(fma(x, y, z))


def parts(size: int) -> int:
    """Number of parts into which `apply` is divided."""
    return -(-size // VALUES)


def scratch_bytes() -> int:
    """Bytes of memory that a part of `apply` wants."""
    return 3 * STEP


def apply(frame, part, scratch):
    """Part of GELU(x), x * sigmoid(y) + z, tanh(x), exp(x * y + z), log(x), x * y + z, ReLU(x) or ReLU(x + y).

    Attribute function: which of them, by its number.

    Arguments x, y and z, and the result, are [size].
    """
    x, y, z, target = argument(frame, 0), argument(frame, 1), argument(frame, 2), result(frame, 0)
    function, size = attribute(frame, _FUNCTION), argument_size(frame, 0, 0)
    first, last = 4 * part * VALUES, 4 * min(size, (part + 1) * VALUES)
    whole = first + (last - first) // STEP * STEP
    for at in range(first, whole, STEP):
        put(_value(function, get(x + at), get(y + at), get(z + at)), target + at)
    if whole < last:
        x2, y2, z2 = scratch, scratch + STEP, scratch + 2 * STEP
        copy(x2, x + whole, last - whole)
        copy(y2, y + whole, last - whole)
        copy(z2, z + whole, last - whole)
        put(_value(function, get(x2), get(y2), get(z2)), x2)
        copy(target + whole, x2, last - whole)
    return 0
