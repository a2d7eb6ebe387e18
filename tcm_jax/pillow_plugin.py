"""Pillow opens and saves `.tcm` files once this module is imported.

    import tcm_jax.pillow_plugin
    from PIL import Image

    Image.open("photo.jpg").save("photo.tcm")
    Image.open("photo.tcm").show()

`save` takes `quality` (1 to 100, of variable-rate weights), `lossless`, `max_error` (in levels), `effort` (0 to 9),
`tune`, `icc_profile` and `exif` (b"" leaves them out); any other option is a ConfigError. Damaged files are a
StreamError, which is an OSError as Pillow's own errors are. Pillow has no entry point that would find the module by
itself.
"""

import dataclasses
import io
from typing import IO, Any

from PIL import Image, ImageFile

import tcm_jax
from tcm_jax.codec.alpha_and_metadata import unpack_metadata
from tcm_jax.codec.container import MAGIC, parse
from tcm_jax.errors import ConfigError
from tcm_jax.images.pictures import EXIF_PREFIX, from_pil

_MODES = {(True, False): "L", (True, True): "LA", (False, False): "RGB", (False, True): "RGBA"}
_OPTIONS = ("quality", "lossless", "max_error", "effort", "tune", "icc_profile", "exif")
_weights: str | None = None


def use_weights(path: str | None) -> None:
    """The weights of every file opened and saved from now on; None is the embedded model."""
    global _weights  # Pillow calls the functions below without anything of ours
    _weights = path


class TcmImageFile(ImageFile.ImageFile):
    """A `.tcm` file; opening reads its header, the network runs when the pixels are wanted."""

    format = "TCM"
    format_description = "TCM learned image compression"

    def _open(self) -> None:
        self._data = self.fp.read() if self.fp else b""
        file = parse(self._data)
        self._size = (file.width, file.height)
        self._mode = _MODES[file.grey, bool(file.alpha)]
        if file.icc:
            self.info["icc_profile"] = unpack_metadata(file.icc, "ICC profile")
        if file.exif:
            self.info["exif"] = EXIF_PREFIX + unpack_metadata(file.exif, "EXIF")

    def load(self) -> Any:
        """Decodes the picture; raises StreamError as `tcm_jax.decompress` does."""
        if self._data:
            array = tcm_jax.decompress(self._data, weights=_weights)
            self._data = b""
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = io.BytesIO(array.tobytes())
            # A tuple of one, since Pillow 11 would map the file of that name for a mode by itself.
            self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, (self.mode,))]
        return super().load()


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    options = {key: value for key, value in image.encoderinfo.items() if value is not None}
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise ConfigError(f"a .tcm file is saved with {', '.join(_OPTIONS)}, and without {', '.join(unknown)}")
    picture = from_pil(image)
    if "icc_profile" in options:
        picture = dataclasses.replace(picture, icc=_bytes(options["icc_profile"], "icc_profile"))
    if "exif" in options:
        exif = options["exif"]
        exif = _bytes(exif.tobytes() if isinstance(exif, Image.Exif) else exif, "exif")
        picture = dataclasses.replace(picture, exif=exif.removeprefix(EXIF_PREFIX))
    taken = {name: options[name] for name in ("quality", "lossless", "max_error", "effort", "tune") if name in options}
    file.write(tcm_jax.compress(picture, weights=_weights, **taken))


def _bytes(value: Any, option: str) -> bytes:
    if not isinstance(value, bytes | bytearray):
        raise ConfigError(f"{option} is bytes, not {type(value).__name__}")
    return bytes(value)


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    image.encoderinfo.pop("save_all", None)
    if getattr(image, "n_frames", 1) > 1 or image.encoderinfo.pop("append_images", None):
        raise ConfigError("a .tcm file holds one picture; save each one to a file of its own")
    _save(image, file, filename)


Image.register_open(TcmImageFile.format, TcmImageFile, _accept)
Image.register_save(TcmImageFile.format, _save)
Image.register_save_all(TcmImageFile.format, _save_all)
Image.register_extension(TcmImageFile.format, ".tcm")
Image.register_mime(TcmImageFile.format, "image/x-tcm")
