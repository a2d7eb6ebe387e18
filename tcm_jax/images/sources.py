"""Where pictures come from: folders, tar files, lists of files and TFDS, all by index."""

import dataclasses
import os
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from tcm_jax.errors import DataError, ImageError, TcmWarning
from tcm_jax.images.formats import suffixes
from tcm_jax.images.pictures import decode_image, read_image
from tcm_jax.system.extras import require_extra
from tcm_jax.system.walk import is_hidden, walk


class ImageSource(Protocol):
    """Pictures by index. `source[i]` is uint8 [H, W, 3], read anew each time, or an ImageError."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...

    def name(self, index: int) -> str:
        """What the log calls picture `index`."""
        ...


def middle(picture: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture [H, W] or [H, W, C], at most `side` pixels a side."""
    top, left = (max(0, (size - side) // 2) for size in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where the bytes of a picture are: a whole file, or a stretch of a tar file."""

    name: str
    path: Path
    offset: int = 0
    size: int = -1


class FolderSource:
    """Pictures under a folder and inside the tar files under it, or inside one tar file; sorted by name."""

    def __init__(self, path: str | os.PathLike):
        """Raises DataError if the path is missing or unreadable, or holds no picture."""
        root = Path(path).expanduser()
        try:
            entries = list(_tar_entries(root) if root.is_file() else _folder_entries(root))
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"cannot read {root}: {getattr(error, 'strerror', None) or error}") from error
        self._entries = sorted(entries, key=lambda entry: entry.name)
        if not self._entries:
            raise DataError(f"{root} holds no pictures ({', '.join(sorted(suffixes()))}), nor tar files with any")

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, index: int) -> str:
        return self._entries[index].name

    def __getitem__(self, index: int) -> np.ndarray:
        entry = self._entries[index]
        try:
            with entry.path.open("rb") as file:
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise ImageError(f"cannot read {entry.name}: {error.strerror or error}") from error
        return decode_image(data, entry.name)


def _folder_entries(root: Path) -> Iterator[_Entry]:
    if not root.exists():
        raise DataError(f"{root} does not exist; give a folder of pictures or a .tar file")
    found = walk(root, suffixes() | {".tar"})
    if found.unreadable:
        folder, reason = found.unreadable[0]
        more = f", nor {len(found.unreadable) - 1} more" if found.unreadable[1:] else ""
        raise DataError(f"a part of {root} cannot be read: {folder} ({reason}){more}")
    for name, kind in found.special:
        warnings.warn(f"{name} is {kind}, and is left out", TcmWarning, stacklevel=4)
    for path in found.files:
        if path.suffix.lower() == ".tar":
            yield from _tar_entries(path)
        else:
            yield _Entry(str(path), path)


def _tar_entries(path: Path) -> Iterator[_Entry]:
    wanted = suffixes()
    try:
        with tarfile.open(path, "r:") as archive:  # No compression: its members are read in place.
            for member in archive:
                name = PurePosixPath(member.name)
                if member.isfile() and name.suffix.lower() in wanted and not is_hidden(name):
                    yield _Entry(f"{path}/{member.name}", path, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DataError(f"{path} is not an uncompressed tar file ({error}); give a folder of pictures") from error


@dataclasses.dataclass(frozen=True)
class Files:
    """Picture files in the given order."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def __getitem__(self, index: int) -> np.ndarray:
        return read_image(self.paths[index])


class TfdsSource:
    """The pictures of a TensorFlow data set, read through `tfds.data_source` without TensorFlow."""

    def __init__(self, name: str, split: str = "train"):
        """Raises DataError if TFDS cannot give the data set with random access or it has no "image" feature."""
        with require_extra("train", "data sets of TFDS need tensorflow-datasets"):
            import tensorflow_datasets as tfds

        try:
            # Files as they are stored: our decoder converts 16-bit, CMYK and the like as it does for folders.
            decoders = {"image": tfds.decode.SkipDecoding()}
            self._source = tfds.data_source(name, split=split, decoders=decoders)
        except Exception as error:  # TFDS raises whatever its builders and downloads led it into.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(f"TFDS data set {name!r}, split {split!r}, cannot be read: {reason}") from error
        if not len(self._source) or "image" not in self._source.dataset_info.features:
            raise DataError(f"TFDS data set {name!r}, split {split!r}, is empty or has no feature called 'image'")
        self._name = f"tfds:{name}:{split}"

    def __len__(self) -> int:
        return len(self._source)

    def name(self, index: int) -> str:
        return f"{self._name}[{index}]"

    def __getitem__(self, index: int) -> np.ndarray:
        return decode_image(self._source[index]["image"], self.name(index))
