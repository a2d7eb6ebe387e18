"""Numbers as users give them, of whatever library."""

from typing import Any


def plain(value: Any) -> Any:
    """A number of NumPy, JAX or the like, or an array of one without axes, as Python's; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
