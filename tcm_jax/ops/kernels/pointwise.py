"""Functions of each element by kernels."""

import jax

from tcm_jax.ops.kernels import calls


def gelu(x: jax.Array) -> jax.Array:
    """`x * Phi(x)`, the exact GELU, of any shape."""
    return _pointwise("GELU", x, x, x)


def relu(x: jax.Array) -> jax.Array:
    """`max(x, 0)`, of any shape."""
    return _pointwise("RELU", x, x, x)


def relu_of_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    """`max(x + y, 0)` of two arrays of one shape."""
    return _pointwise("SUM_RELU", x, y, x)


def tanh(x: jax.Array) -> jax.Array:
    """The hyperbolic tangent of x, of any shape, within 1e-7."""
    return _pointwise("TANH", x, x, x)


def gate(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`x * sigmoid(y) + z` of three arrays of one shape."""
    return _pointwise("GATE", x, y, z)


def exp(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`exp(x * y + z)` of three arrays of one shape."""
    return _pointwise("EXP", x, y, z)


def log(x: jax.Array) -> jax.Array:
    """The natural logarithm of positive x, of any shape."""
    return _pointwise("LOG", x, x, x)


def multiply_add(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """`x * y + z` of three arrays of one shape, rounded once."""
    return _pointwise("MULTIPLY_ADD", x, y, z)


def _pointwise(function: str, *xs: jax.Array) -> jax.Array:
    from tcm_jax.ops.kernels import functions

    shape, size = xs[0].shape, xs[0].size
    arguments, y = [x.reshape(-1) for x in xs], jax.ShapeDtypeStruct((size,), xs[0].dtype)
    parts, scratch = functions.parts(size), functions.scratch_bytes()
    number = getattr(functions, function)
    return calls.call("pointwise", y, arguments, parts, scratch, function=number).reshape(shape)
