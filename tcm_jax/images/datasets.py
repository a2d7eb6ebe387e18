"""The names of data sets, for training, validation and evaluation."""

import os
from importlib.util import find_spec
from pathlib import Path

from tcm_jax.errors import ConfigError, DataError, MissingExtraError
from tcm_jax.images.kodak import kodak_files
from tcm_jax.images.sources import Files, FolderSource, ImageSource, TfdsSource
from tcm_jax.system.cache import cache_folder

FORMS = "samples, kodak, a folder or .tar file (PATH or folder:PATH), or tfds:NAME[:SPLIT]"
SAMPLES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")


def open_dataset(spec: str, split: str = "test") -> ImageSource:
    """Opens `samples`, `kodak`, a folder or .tar file (`PATH` or `folder:PATH`), or `tfds:NAME[:SPLIT]`.

    `split` is that of a TFDS name without one. Raises ConfigError for a spec without a name, DataError for pictures
    that are missing or cannot be had, MissingExtraError for what is not installed.
    """
    kind, colon, rest = spec.partition(":")
    if not spec or (kind in ("folder", "tfds") and colon and not rest):
        raise ConfigError(f"the name of the data set is empty; give {FORMS}")
    if spec == "samples":
        return Files(_samples())
    if spec == "kodak":
        cache = cache_folder()
        return Files(kodak_files(cache and cache / "kodak"))
    if kind == "tfds" and colon:
        name, _, own_split = rest.partition(":")
        return TfdsSource(name, own_split or split)
    path = Path(rest if kind == "folder" and colon else spec).expanduser()
    if not path.exists():
        raise DataError(f"{path} does not exist; a data set is {FORMS}")
    return FolderSource(path)


def short_name(spec: str) -> str:
    """What a data set is called: the last part of its folder, or the spec itself."""
    return spec if spec.startswith("tfds:") else Path(spec.removeprefix("folder:")).resolve().name.removesuffix(".tar")


def short_names(pictures: ImageSource) -> list[str]:
    """The pictures' names without the folder that all of them share."""
    names = [pictures.name(i) for i in range(len(pictures))]
    shared = os.path.commonpath([Path(name).parent for name in names])
    return [str(Path(name).relative_to(shared)) for name in names]


def _samples() -> tuple[Path, ...]:
    """Photographs inside scikit-image's wheel, found without importing it (which takes a second)."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise MissingExtraError('the sample photographs come with scikit-image: pip install "tcm_jax[evaluation]"')
    return tuple(Path(package.origin).parent / "data" / name for name in SAMPLES)
