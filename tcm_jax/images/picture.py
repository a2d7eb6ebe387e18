"""A picture in memory: what a `.tcm` file can hold."""

import dataclasses
from typing import Any

import numpy as np

from tcm_jax.errors import ImageError


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """What a `.tcm` file can hold of a picture.

    Attributes:
        colour: uint8 [H, W, 3] RGB, or [H, W] grey.
        alpha: uint8 [H, W], 0 transparent to 255 opaque, or None.
        icc: ICC profile of `colour` (RGB or grey), or empty: sRGB.
        exif: EXIF from its TIFF header on, or empty. Its orientation has been applied and taken out.
        left_out: what of the file that it came from could not be kept, each with the reason.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes = b""
    exif: bytes = b""
    left_out: tuple[str, ...] = ()

    def __post_init__(self):
        """Raises ImageError for samples of another kind."""
        size = self.colour.shape[:2]
        sound = self.colour.dtype == np.uint8 and len(size) == 2 and self.colour.shape[2:] in ((), (3,))
        if self.alpha is not None:
            sound = sound and self.alpha.dtype == np.uint8 and self.alpha.shape == size
        if not sound:
            raise ImageError(
                "a Picture has uint8 colours, [height, width] or [height, width, 3], and alpha of that size"
            )

    @classmethod
    def of(cls, image: Any) -> "Picture":
        """A picture of an array as `array` gives it, of any library. Raises ImageError, or TypeError for no array."""
        if isinstance(image, Picture):
            return image
        array = _host_array(image)
        if array.ndim == 2:
            return cls(array)
        if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
            raise ImageError(
                f"pictures are arrays of shape [height, width] or [height, width, 1 to 4 channels], not {array.shape}"
            )
        colours = 1 if array.shape[2] < 3 else 3
        colour = array[..., 0] if colours == 1 else array[..., :3]
        return cls(colour, array[..., -1] if array.shape[2] > colours else None)

    @property
    def array(self) -> np.ndarray:
        """uint8 [H, W] grey, [H, W, 2] grey and alpha, [H, W, 3] RGB, or [H, W, 4] RGB and alpha."""
        return self.colour if self.alpha is None else np.dstack([self.colour, self.alpha])

    @property
    def rgb(self) -> np.ndarray:
        """uint8 [H, W, 3]: grey three times, transparent parts on white."""
        rgb = self.colour if self.colour.ndim == 3 else np.repeat(self.colour[..., None], 3, axis=-1)
        if self.alpha is None:
            return rgb
        alpha = self.alpha[..., None].astype(np.uint16)
        return ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)

    def warning(self, name: str, verb: str) -> str | None:
        """What was left out, in one sentence: "photo.jpg is read without its EXIF (...)"; None if nothing was."""
        return f"{name} is {verb} without its {' and its '.join(self.left_out)}" if self.left_out else None


def _host_array(image: Any) -> np.ndarray:
    """A uint8 array of NumPy, JAX or whatever else has `__array__`. Raises ImageError, or TypeError without it."""
    if not hasattr(image, "__array__"):
        raise TypeError(
            f"a picture is a uint8 array, for tcm_jax.compress also a PIL image or a path, not {type(image).__name__}"
        )
    try:
        array = np.asarray(image)
    except Exception as error:
        if type(error).__name__ == "TracerArrayConversionError":  # of JAX, which need not be installed
            raise ImageError(
                "this array is traced by JAX and has no values yet; call this outside of jax.jit, or through "
                "jax.pure_callback"
            ) from error
        # such as an array on a device that its library does not copy from by itself
        raise ImageError(f"this {type(image).__name__} cannot be made into a NumPy array: {error}") from error
    if array.dtype != np.uint8:
        raise ImageError(f"pictures are uint8 arrays, not {array.dtype}; scale other samples to 0 .. 255 first")
    return array
