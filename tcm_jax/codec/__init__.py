"""Pictures to the bytes of `.tcm` files and back."""

from typing import TYPE_CHECKING

from tcm_jax.system.lazy import attributes

if TYPE_CHECKING:
    from tcm_jax.codec.codec import Codec

__all__ = ["Codec"]
__getattr__ = attributes(__name__, {"codec": ("Codec",)})  # not loaded by those who only read a file's header
