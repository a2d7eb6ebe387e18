"""JAX's primitives as operations of NumPy and of the kernels.

They have the bits of XLA on a CPU, but where that rounds a sum of products once, or tiny numbers to 0: programs that
encoder and decoder must agree on leave both to kernels. Indices are taken as in range, divisors of integers as not 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tcm_jax.codec.formulas import at, with_formulas
from tcm_jax.ops.kernels import direct

Operation = tuple[Callable[..., Any], dict[str, Any]]  # a function of arrays and what else it takes; both are pickled
_TYPES = {"bool", "uint8", "int32", "float32"}
_CUSTOM_CALL = "tcm_jax_"  # what the names of kernels begin with


def sized(operation: Operation, h: int, w: int) -> Operation:
    """An operation with numbers for its formulas."""
    function, settings = operation
    return function, {key: at(value, h, w) for key, value in settings.items()}


def operation_of(equation: Any) -> Operation:
    """What computes an equation's results, one array or a list. Raises NotImplementedError for what is not known."""
    name, params = equation.primitive.name, equation.params
    shapes = [variable.aval.shape for variable in equation.invars]
    types = [variable.aval.dtype for variable in (*equation.invars, *equation.outvars)]
    floats = all(kind == np.float32 for kind in types)
    if not set(map(str, types)) <= _TYPES:
        raise NotImplementedError(f"numbers of these types are no step of a program: {equation}")
    if name in _PLAIN and (floats or name not in _OF_FLOATS):
        return _PLAIN[name], {}
    if name in _RULES and (found := _RULES[name](params, shapes, equation.outvars)) is not None:
        function, settings = found
        return function, {key: with_formulas(value) for key, value in settings.items()}
    raise NotImplementedError(f"JAX's {name} is no step of a program: {equation}")


_PLAIN: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "add": np.add, "and": np.bitwise_and, "div": np.divide, "eq": np.equal, "floor": np.floor,
    "lt": np.less, "max": np.maximum, "min": np.minimum, "mul": np.multiply, "ne": np.not_equal, "rem": np.fmod,
    "sign": np.sign, "sub": np.subtract,
}  # fmt: skip
_OF_FLOATS = ("div",)  # of integers it is another operation


def select(which: np.ndarray, no: np.ndarray, yes: np.ndarray) -> np.ndarray:
    """`yes` where a bool is true, else `no`."""
    return np.where(which, yes, no)


def square(x: np.ndarray) -> np.ndarray:
    """x times itself."""
    return x * x


def convert(x: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers of another type; what is beyond an integer's range becomes its limit, what is no number 0."""
    if x.dtype == np.float32 and np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        x = np.clip(np.nan_to_num(x if limits.bits < 24 else x.astype(np.float64)), limits.min, limits.max)
    return x.astype(dtype, copy=False)


def broadcast(x: np.ndarray, unit: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """A view with repeated axes; `unit` is its shape with 1 for them."""
    return np.broadcast_to(x.reshape(unit), shape)


def reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The same values in another shape."""
    return x.reshape(shape)


def transpose(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """A view with axes in another order."""
    return x.transpose(axes)


def concatenate(*xs: np.ndarray, axis: int) -> np.ndarray:
    """Arrays side by side."""
    return np.concatenate(xs, axis)


def split(x: np.ndarray, at: tuple[int, ...], axis: int) -> list[np.ndarray]:
    """Views of what lies between the places `at` of an axis."""
    return np.split(x, at, axis)


def pad(x: np.ndarray, value: np.ndarray, widths: tuple[tuple[int, int], ...]) -> np.ndarray:
    """An array with a value before and after it along each axis."""
    return np.pad(x, widths, constant_values=value)


def cut(x: np.ndarray, at: tuple[slice, ...]) -> np.ndarray:
    """A view of a part."""
    return x[at]


def rows(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Entries of the first axis, at an index [..., 1]."""
    return x[index[..., 0]]


def iota(shape: tuple[int, ...], axis: int, dtype: str) -> np.ndarray:
    """0, 1, ... along an axis."""
    along = [1] * len(shape)
    along[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis], dtype=dtype).reshape(along), shape)


def _broadcast(params, shapes, _):
    unit = [1] * len(params["shape"])
    for size, axis in zip(shapes[0], params["broadcast_dimensions"], strict=True):
        unit[axis] = size
    return broadcast, {"unit": tuple(unit), "shape": tuple(params["shape"])}


def _gather(params, shapes, _):
    numbers, (table, index) = params["dimension_numbers"], shapes
    of_rows = (
        tuple(numbers.collapsed_slice_dims) == tuple(numbers.start_index_map) == (0,)
        and tuple(numbers.offset_dims) == tuple(range(len(index) - 1, len(index) + len(table) - 2))
        and tuple(params["slice_sizes"]) == (1, *table[1:])
        and index[-1] == 1
    )
    return (rows, {}) if of_rows else None


def _pad(params, *_):
    widths = tuple((low, high) for low, high, inside in params["padding_config"] if inside == 0 <= min(low, high))
    return (pad, {"widths": widths}) if len(widths) == len(params["padding_config"]) else None


def _slice(params, shapes, _):
    strides = params["strides"] or (1,) * len(shapes[0])
    return cut, {"at": tuple(map(slice, params["start_indices"], params["limit_indices"], strides))}


def _split(params, *_):
    return split, {"at": tuple(int(place) for place in np.cumsum(params["sizes"])[:-1]), "axis": params["axis"]}


def _kernel(params, shapes, results):
    if not params["target_name"].startswith(_CUSTOM_CALL):
        return None
    attributes = tuple((name, int(x) if isinstance(x, np.integer) else x) for name, x in params["attributes"])
    return direct.call, {"frame": direct.Frame(tuple(shapes), tuple(v.aval.shape for v in results), attributes)}


# Of an equation's parameters, the shapes of its inputs and its results: an operation, None where it is not known.
_RULES: dict[str, Callable[..., Operation | None]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda params, *_: (concatenate, {"axis": params["dimension"]}),
    "convert_element_type": lambda params, *_: (convert, {"dtype": str(params["new_dtype"])}),
    # What older JAX makes of a constant.
    "device_put": lambda params, shapes, _: (reshape, {"shape": tuple(shapes[0])}) if len(shapes) == 1 else None,
    "ffi_call": _kernel,
    "gather": _gather,
    "integer_pow": lambda params, *_: (square, {}) if params["y"] == 2 else None,
    "iota": lambda params, *_: (
        iota,
        {"shape": tuple(params["shape"]), "axis": params["dimension"], "dtype": str(params["dtype"])},
    ),
    "pad": _pad,
    "reshape": lambda params, *_: (reshape, {"shape": tuple(params["new_sizes"])}),
    "round": lambda params, *_: (np.rint, {}) if int(params["rounding_method"]) == 1 else None,
    "select_n": lambda params, shapes, _: (select, {}) if len(shapes) == 3 else None,
    "slice": _slice,
    "split": _split,
    "squeeze": lambda params, shapes, results: (reshape, {"shape": tuple(results[0].aval.shape)}),
    "transpose": lambda params, *_: (transpose, {"axes": tuple(params["permutation"])}),
}
