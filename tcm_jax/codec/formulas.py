"""Sizes as formulas of a picture's, so that one trace is a program for every size.

A formula is text as JAX writes it for its symbolic dimensions: "8*h", "- floordiv(- 512*h*w, 48)". `h` and `w` are the
height and the width of a padded picture, or of a tile, in steps of PAD_MULTIPLE.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from types import CodeType
from typing import Any

from tcm_jax.model.config import PAD_MULTIPLE

SIDES = ("h", "w")
_FUNCTIONS = {"floordiv": operator.floordiv, "mod": operator.mod, "max": max, "min": min}


@dataclasses.dataclass(frozen=True)
class Formula:
    """A size that depends on that of the picture."""

    text: str

    def at(self, h: int, w: int) -> int:
        """Its value for one size."""
        return eval(_code(self.text), {"__builtins__": {}, "h": h, "w": w} | _FUNCTIONS)


@functools.lru_cache(maxsize=4096)
def _code(text: str) -> CodeType:
    return compile(text, "a formula", "eval")


def sides_of(shape: tuple[int, ...], stride: int) -> tuple[int, int]:
    """(h, w) of a grid [height, width, ...] with `stride` pixels a position. Raises ValueError for other sizes."""
    height, width = (stride * side for side in shape[:2])
    if height % PAD_MULTIPLE or width % PAD_MULTIPLE:
        raise ValueError(f"a grid of {shape[0]}x{shape[1]} is none of a picture padded to multiples of {PAD_MULTIPLE}")
    return height // PAD_MULTIPLE, width // PAD_MULTIPLE


def shape_of_any_size(shape: tuple[int, ...], stride: int) -> tuple[str, ...]:
    """Shape of a grid [height, width, ...] of any size, `stride` pixels a position: formulas and numbers as text."""
    return (*(f"{PAD_MULTIPLE // stride}*{side}" for side in SIDES), *map(str, shape[2:]))


def with_formulas(value: Any) -> Any:
    """Numbers, maybe in tuples, slices and dataclasses, with formulas in place of JAX's symbolic dimensions."""
    return _mapped(lambda x: Formula(str(x)) if type(x).__name__ == "_DimExpr" else x, value)


def at(value: Any, h: int, w: int) -> Any:
    """What `with_formulas` gave, as numbers for one size."""
    return _mapped(lambda x: x.at(h, w) if isinstance(x, Formula) else x, value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_mapped(function, part) for part in value)
    if isinstance(value, slice):
        return slice(*(_mapped(function, part) for part in (value.start, value.stop, value.step)))
    if dataclasses.is_dataclass(value) and not isinstance(value, Formula | type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _mapped(function, part) for name, part in parts.items()})
    return function(value)
