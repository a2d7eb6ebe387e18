"""Learned image compression with mixed Transformer-CNN architectures (TCM, CVPR 2023) in JAX and Flax.

    import tcm_jax

    data = tcm_jax.compress("photo.jpg")  # a path, a uint8 array or a PIL image to the bytes of a .tcm file
    image = tcm_jax.decompress(data)  # the array; as_pil=True for a PIL image

`tcm_jax.Codec` has every setting; `import tcm_jax.pillow_plugin` teaches Pillow to open and save `.tcm` files.
Importing the package itself loads nothing heavy. JAX is imported for the first picture on a machine, by which it keeps
programs that do without, and where there is more than a CPU. Nothing of the process is changed unless `tune_process` is
called.
"""

from __future__ import annotations

import functools
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, overload

from tcm_jax.errors import (
    ArithmeticMismatchError,
    ConfigError,
    DataError,
    ImageError,
    MissingExtraError,
    ModelMismatchError,
    Preempted,
    StreamError,
    TcmError,
    TcmWarning,
    TrainingError,
    WeightsError,
)

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from tcm_jax.codec import Codec
    from tcm_jax.images.picture import Picture

    File = bytes | bytearray | memoryview | str | PathLike[str] | BinaryIO

__all__ = [
    "ArithmeticMismatchError",
    "Codec",
    "ConfigError",
    "DataError",
    "ImageError",
    "MissingExtraError",
    "ModelMismatchError",
    "Preempted",
    "StreamError",
    "TcmError",
    "TcmWarning",
    "TrainingError",
    "WeightsError",
    "__version__",
    "compress",
    "decompress",
    "tune_process",
]

__version__: str


def __getattr__(name: str) -> Any:
    """`Codec` and `__version__`, which take time to import, once they are asked for."""
    if name == "Codec":
        from tcm_jax.codec import Codec

        return Codec
    if name == "__version__":
        from importlib.metadata import version

        return version("tcm_jax")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def compress(
    image: np.ndarray[Any, Any] | Image.Image | Picture | str | PathLike[str],
    *,
    quality: float | None = None,
    weights: str | PathLike[str] | None = None,
    lossless: bool = False,
    max_error: int | None = None,
    effort: int = 0,
    tune: str | None = None,
) -> bytes:
    """A picture to the bytes of a `.tcm` file.

    Args:
        image: uint8 [H, W] grey, [H, W, 2] grey and alpha, [H, W, 3] RGB or [H, W, 4] RGB and alpha; or a PIL image of
            any mode, or the path of a picture file, whose ICC profile and EXIF are kept.
        quality: 1 to 100, of variable-rate weights (55 if None); 100 is exact.
        weights: a `.safetensors` file; None is an embedded model.
        lossless: every sample comes back as it is.
        max_error: no sample is off by more than so many levels, 0 to 127. Give one of quality, lossless and max_error.
        effort: 0 to 9, how long to search for latents that code the picture better; each step doubles the time.
        tune: what the picture is coded for: "psnr", or for the eye "visual", "ms-ssim" or "ssimulacra2". It chooses the
            embedded model, and what the search is for; None is "visual", or what `weights` were trained for.

    Raises:
        TcmError: a subclass says which of these cannot be used, and why.
        TypeError: an image or weights of another type.
    """
    from PIL import Image

    from tcm_jax.codec.effort import Effort
    from tcm_jax.codec.scalars import plain
    from tcm_jax.images.pictures import from_pil, read_picture, with_warning

    lossless = plain(lossless)
    if not isinstance(lossless, int) or lossless not in (0, 1):
        raise ConfigError(f"lossless is True or False, not {lossless!r}")
    rates = {"quality": quality is not None, "lossless": lossless, "max_error": max_error is not None}
    given = [name for name, is_given in rates.items() if is_given]
    if len(given) > 1:
        raise ConfigError(f"give one of quality, lossless and max_error, not {' and '.join(given)}")
    if isinstance(image, Image.Image):
        image = from_pil(image)
    elif isinstance(image, str | PathLike):
        image = with_warning(read_picture(image), str(image))
    error = 0 if lossless else max_error
    wanted = Effort(effort, tune)
    return _codec(weights, tune).compress(image, quality, max_error=error, effort=wanted)


@overload
def decompress(
    data: File, *, weights: str | PathLike[str] | None = None, as_pil: Literal[False] = False
) -> np.ndarray[Any, Any]: ...


@overload
def decompress(data: File, *, weights: str | PathLike[str] | None = None, as_pil: Literal[True]) -> Image.Image: ...


def decompress(
    data: File, *, weights: str | PathLike[str] | None = None, as_pil: bool = False
) -> np.ndarray[Any, Any] | Image.Image:
    """A `.tcm` file to the picture: an array as `compress` takes it, or a PIL image with its metadata.

    Args:
        data: the bytes of the file, its path, or the file itself, opened for reading bytes.
        weights: as `compress` takes them; None is the embedded model that wrote the file.
        as_pil: give a PIL image.

    Raises:
        StreamError: no intact file, one of other weights, or one that this device's arithmetic cannot decode.
        WeightsError: the weights cannot be used.
        TypeError: data or weights of another type.
    """
    from tcm_jax.images.pictures import to_pil

    picture = _codec(weights).decode(_read(data))
    return to_pil(picture) if as_pil else picture.array


def tune_process() -> None:
    """Sets up the whole process for coding pictures, as the command `tcm` does; without it nothing of it is changed.

    On Linux with glibc freed memory stays with the process for the next picture, in huge pages, so that it keeps the
    most memory that it ever had. JAX's compilation cache is switched on in the user's cache folder, where
    JAX_COMPILATION_CACHE_DIR names no other. To be called before anything else uses JAX; a second call does nothing.
    """
    from tcm_jax.system import process

    process.tune_process()


def _read(data: File) -> bytes:
    from tcm_jax.system.files import read_file

    try:
        if isinstance(data, str | PathLike):
            return read_file(data)
        if hasattr(data, "read"):
            data = data.read()
    except (OSError, ValueError) as error:  # ValueError: a closed file, a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        name = data if isinstance(data, str | PathLike) else getattr(data, "name", "the file")
        raise StreamError(f"cannot read {name}: {reason}") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        kind = type(data).__name__
        raise TypeError(f"a .tcm file is bytes, a path, or a file opened for reading bytes, but not {kind}")
    return bytes(data)


def _codec(weights: str | PathLike[str] | None, tune: str | None = None) -> Codec:
    from tcm_jax.system.names import file_path
    from tcm_jax.weights.embedded import embedded_for

    if weights is None:
        return _opened(embedded_for(tune), None)
    path = file_path(fspath(weights)).absolute()
    try:
        status = path.stat()
    except (OSError, ValueError):  # to load them says what is wrong
        return _opened(path, None)
    return _opened(path, (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=2)
def _opened(path: Path, written: tuple[int, int] | None) -> Codec:
    """The codec of weights as they were `written`: (nanoseconds, bytes)."""
    from tcm_jax.codec import Codec
    from tcm_jax.weights.files import load_weights

    return Codec(load_weights(path))
