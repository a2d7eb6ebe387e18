"""Lists, tuples and dicts of arrays taken apart and put together as JAX does it, without JAX."""

from collections.abc import Iterable, Iterator
from typing import Any

# Of a list, a tuple or a dict: which of them, its keys, and the structures in it; None, and _LEAF for all else.
Structure = Any
_LEAF = "*"


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """(leaves in the order that JAX gives them, structure, which is hashable); None has no leaf."""
    leaves: list[Any] = []
    return leaves, _structure(tree, leaves)


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """Inverse of `flatten`."""
    return _built(structure, iter(leaves))


def _structure(tree: Any, leaves: list[Any]) -> Structure:
    if tree is None:
        return None
    if isinstance(tree, list | tuple):
        return type(tree).__name__, None, tuple(_structure(part, leaves) for part in tree)
    if isinstance(tree, dict):
        keys = tuple(sorted(tree))
        return "dict", keys, tuple(_structure(tree[key], leaves) for key in keys)
    leaves.append(tree)
    return _LEAF


def _built(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return None
    if structure == _LEAF:
        return next(leaves)
    kind, keys, inner = structure
    parts = [_built(part, leaves) for part in inner]
    return dict(zip(keys, parts, strict=True)) if kind == "dict" else parts if kind == "list" else tuple(parts)
