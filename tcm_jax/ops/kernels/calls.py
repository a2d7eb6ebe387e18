"""How a kernel is called from a JAX program, and weights arranged for it."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def call(name: str, results: Any, arguments: Iterable[jax.Array], parts: int, scratch: int, prepare=0, **attributes):
    """Calls a kernel of `handlers.KERNELS`, whose work has so many parts of so many bytes of scratch memory.

    `prepare`: the parts of the kernel before it, which is done first; 0: there is none to do. Raises RuntimeError for a
    kernel that `handlers` has not made.
    """
    from tcm_jax.ops.kernels import handlers

    if not handlers.made(name):
        raise RuntimeError(f"the kernel {name} was not made; ask `search_target` or `training_target` for the target")
    common = {"_kernel": handlers.NUMBERS[name], "_parts": parts, "_prepare": prepare, "_scratch": scratch}
    # Of a trace for any size some are symbolic (codec/formulas.py).
    integers = {key: np.int64(x) if isinstance(x, int) else x for key, x in (common | attributes).items()}
    return jax.ffi.ffi_call(f"tcm_jax_{name}", results)(*arguments, **integers)


def packed(kernel: jax.Array) -> jax.Array:
    """[..., inner, features] as panels of columns that are next to each other: [..., panels, inner, COLUMNS]."""
    from tcm_jax.ops.kernels.machine import COLUMNS

    *sets, inner, features = kernel.shape
    panels = _columns(kernel.reshape(-1, inner, features), -(-features // COLUMNS), COLUMNS)
    return panels.reshape(*sets, -1, inner, COLUMNS)


def filled(x: jax.Array, multiple: int | None = None) -> jax.Array:
    """`x` [..., n] with zeros appended to the last axis up to a multiple of COLUMNS, or another."""
    from tcm_jax.ops.kernels.machine import COLUMNS

    width = x.shape[-1] + -x.shape[-1] % (multiple or COLUMNS)
    return _columns(x.reshape(1, -1, x.shape[-1]), 1, width).reshape(*x.shape[:-1], width)


def _columns(x: jax.Array, panels: int, width: int) -> jax.Array:
    """`x` [sets, rows, n] in `panels` panels of `width` columns, with zeros beyond it: [sets, panels, rows, width]."""
    sets, rows, n = x.shape
    if panels == 1 and width == n:
        return x[:, None]
    y = jax.ShapeDtypeStruct((sets, panels, rows, width), x.dtype)
    return call("pack", y, (x,), sets * panels, 0)
