"""Which files are pictures: what Pillow reads, and JPEG XL where its plugin is installed."""

import importlib.util
from pathlib import Path

from PIL import Image

from tcm_jax.errors import ConfigError

# Formats that Pillow recognizes and has no decoder for, and our own, which tcm_jax.pillow_plugin registers.
_NOT_READ = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "TCM"})
_OTHER_KINDS = frozenset({".tcm", ".safetensors", ".tar", ".pth", ".html"})  # that we read or write, too
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


def suffixes() -> frozenset[str]:
    """The endings of files that are read as pictures, in lower case, each with its dot."""
    Image.init()
    _register_jpeg_xl()
    # Pillow's reader of JPEG is that of MPO too, which has no entry of its own.
    read = {"MPO", *Image.OPEN} - _NOT_READ
    return frozenset(suffix for suffix, name in Image.EXTENSION.items() if name in read)


def check_ending(output: object, suffix: str) -> None:
    """Raises ConfigError for an output of `suffix` files that has the ending of a picture or of a file of another kind.

    A pattern of the shell that an option took the first name of, and --overwrite, must not cost a file.
    """
    name = Path(str(output))
    ending = name.suffix.lower()
    if ending != suffix and (ending in _OTHER_KINDS or ending in suffixes()):
        raise ConfigError(f"this writes {suffix} files; give {name.name} the ending {suffix}")


def is_jpeg_xl(data: bytes) -> bool:
    """Whether a file begins as JPEG XL does."""
    return data.startswith(_JPEG_XL)


def register_reader(data: bytes) -> None:
    """Teaches Pillow to read JPEG XL if `data` is such a file and the plugin is installed."""
    if is_jpeg_xl(data):
        _register_jpeg_xl()


def _register_jpeg_xl() -> None:
    if importlib.util.find_spec("pillow_jxl") is not None:
        import pillow_jxl  # noqa: F401  registers the format
