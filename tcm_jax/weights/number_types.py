"""Parameters in fewer bits: float16, or int8 with a scale for each output of a kernel.

What is stored stands for float32 numbers exactly, so that a model has the same identity however it was stored.
"""

from collections.abc import Mapping

import numpy as np

# Modules whose errors cost bits and hardly any of the picture (benchmarks/number_types.py).
_CONTEXT = ("h_mean_s", "h_scale_s", "cc_", "atten_", "checkerboard_", "lrp_", "detail/scale_transforms_")
_LARGEST = 127
_SCALE = ".scale"  # after the name of a kernel in int8


def rounded(name: str, value: np.ndarray, dtype) -> np.ndarray:
    """The float32 numbers that remain of a parameter in `dtype`: float32, float16, or int8, for kernels alone."""
    if not _in_int8(name, dtype):
        return np.asarray(value, _plain(dtype)).astype(np.float32)
    scale = _scale(value)
    return (np.rint(value / scale) * scale + 0).astype(np.float32)  # no -0, which integers do not have


def packed(flat: Mapping[str, np.ndarray], dtype) -> dict[str, np.ndarray]:
    """Arrays to store for float32 parameters that `rounded` gave for `dtype`, in C order."""
    arrays: dict[str, np.ndarray] = {}
    for name, value in flat.items():
        if _in_int8(name, dtype):
            scale = _scale(value)
            arrays |= {name: np.rint(value / scale).astype(np.int8, order="C"), name + _SCALE: scale}
        else:
            arrays[name] = value.astype(_plain(dtype), order="C")
    return arrays


def unpacked(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The float32 parameters of stored arrays. Raises KeyError for an int8 kernel without scales."""
    return {
        name: value.astype(np.float32) * arrays[name + _SCALE] if value.dtype == np.int8 else value.astype(np.float32)
        for name, value in arrays.items()
        if not name.endswith(_SCALE)
    }


def _in_int8(name: str, dtype) -> bool:
    return np.dtype(dtype) == np.int8 and name.startswith(_CONTEXT) and name.endswith("kernel")


def _plain(dtype) -> np.dtype:
    """What parameters that are no kernels are stored in."""
    return np.dtype(np.float16 if np.dtype(dtype) == np.int8 else dtype)


def _scale(value: np.ndarray) -> np.ndarray:
    """Float32 of 4 bits for each output of a kernel: at most 127 of it are its largest number.

    That is the least such number, or the next one if the numbers are multiples of that.
    """
    largest = np.abs(value).reshape(-1, value.shape[-1]).max(0).astype(np.float32)
    least = _rounded_up(np.where(largest > 0, largest / _LARGEST, 1))
    scale = least
    for _ in range(2):
        ratio = (value / scale).reshape(-1, value.shape[-1])
        scale = np.where((ratio == np.rint(ratio)).all(0), scale, _rounded_up(scale * np.float32(1 + 1 / 32)))
    ratio = (value / scale).reshape(-1, value.shape[-1])
    return np.where((ratio == np.rint(ratio)).all(0), scale, least)


def _rounded_up(scale: np.ndarray) -> np.ndarray:
    """The next larger floats of 4 bits: a number of 7 bits times one is exact in float16."""
    mantissa, exponent = np.frexp(scale)
    return np.ldexp(np.ceil(mantissa * 2**4), exponent - 4).astype(np.float32)
