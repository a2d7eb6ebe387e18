"""Pictures to the bytes of `.tcm` files and back."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcm_jax.codec.codec import Codec

__all__ = ["Codec"]


def __getattr__(name: str) -> Any:
    """`tcm_jax.codec.Codec`; JAX is loaded when it is asked for, not by those who only read a file's header."""
    if name == "Codec":
        from tcm_jax.codec.codec import Codec

        return Codec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
