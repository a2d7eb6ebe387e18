"""Refined latents of training pictures, for an encoder to learn from (docs/effort.md).

    python -m tcm_jax.training.teacher PICTURES OUT [--qualities 20,55,80] [--effort 5] [--crop 256] [--weights FILE]

PICTURES is as train.py's `data.source`. For the middle of each picture and each quality OUT gets NUMBER-qQUALITY.npz
with what `refined` returns. The same command again goes on where it was; a folder of other settings is refused.
"""

import argparse
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from tcm_jax.codec import Codec
from tcm_jax.codec.effort import Effort
from tcm_jax.codec.symbols import Measured
from tcm_jax.codec.tiles import Grid
from tcm_jax.errors import ConfigError, ImageError, TcmWarning
from tcm_jax.images.datasets import open_dataset
from tcm_jax.images.sources import middle
from tcm_jax.system import signals
from tcm_jax.system.arguments import Parser
from tcm_jax.system.files import atomic_write
from tcm_jax.system.names import file_name, file_path
from tcm_jax.system.process import tune_process
from tcm_jax.training.open_weights import open_weights

SETTINGS = "settings.json"
NO_TEACHER = "a teacher has weights of variable rate, qualities from 1 to 100, and an effort from 1 to 9"


def refined(codec: Codec, picture: np.ndarray, quality: float, effort: Effort) -> dict[str, np.ndarray]:
    """A picture uint8 [H, W, 3] and its latents, before and after a search.

    `picture` is the picture; `level` its gain level, float32 [1]; `y` and `searched` are float32 [h, w, M], h and w a
    sixteenth of the padded height and width: g_a's output times the level's gain, and what the search made of it.
    `searched` less its means rounds to the symbols of a file of latents alone. Raises ConfigError for weights of one
    rate or without lambda, for a quality that is not 1 to 100 and for an effort of 0.
    """
    if not (codec.weights.config.levels and 1 <= quality <= 100 and effort.steps):
        raise ConfigError(NO_TEACHER)
    slices, hundredths = codec.slice_encoder, round(100 * quality)
    improve, level = slices.improvement(picture, hundredths, effort), slices.level(hundredths)
    assert improve is not None and level is not None  # of such weights and efforts
    found: dict[str, np.ndarray] = {}

    def record(y: list[np.ndarray], context: list[Grid]) -> None:
        found["y"] = np.concatenate(y, axis=-1)
        improve(y, context)
        found["searched"] = np.concatenate(y, axis=-1)

    slices.encode(
        picture, hundredths, codec.guard_band, tile=0, transform_tile=codec.tile, measured=Measured(), improve=record
    )
    return {"picture": picture, "level": level, **found}


def main() -> int:
    """Parses the command line, searches, writes; returns the exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures")
    parser.add_argument("out", type=file_path)
    parser.add_argument("--qualities", type=_qualities, default=[20.0, 55.0, 80.0], help="from 1 to 100")
    parser.add_argument("--effort", type=int, default=5, choices=range(1, 10), help="1 to 9")
    parser.add_argument("--crop", type=int, default=256, help="pixels a side of the middle that is taken, at most")
    parser.add_argument("--weights", type=file_name, help="as tcm compress takes them; default: the embedded model")
    flags = parser.parse_args()
    if flags.crop < 1:
        raise ConfigError(f"--crop is {flags.crop}; it must be at least 1")
    tune_process()
    codec, pictures = Codec(open_weights(flags.weights)), open_dataset(flags.pictures, "train")
    if not codec.weights.config.levels:
        raise ConfigError(NO_TEACHER)
    if flags.out.exists() and not flags.out.is_dir():
        raise ConfigError(f"{flags.out} is a file; give a folder")
    flags.out.mkdir(parents=True, exist_ok=True)
    settings = {"pictures": flags.pictures, "effort": flags.effort, "crop": flags.crop, "model": codec.model_id.hex()}
    _check_settings(flags.out / SETTINGS, settings)
    for number in track(range(len(pictures)), "searching"):
        paths = {quality: flags.out / f"{number:06d}-q{quality:g}.npz" for quality in flags.qualities}
        missing = {quality: path for quality, path in paths.items() if not path.exists()}
        if not missing:
            continue
        try:
            picture = middle(pictures[number], flags.crop)
        except ImageError as error:
            warnings.warn(str(error), TcmWarning, stacklevel=1)
            continue
        for quality, path in missing.items():
            buffer = io.BytesIO()
            arrays: dict[str, Any] = refined(codec, picture, quality, Effort(flags.effort))
            np.savez_compressed(buffer, **arrays)
            atomic_write(path, buffer.getvalue())
    return 0


def _qualities(text: str) -> list[float]:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = [0.0]
    if not all(1 <= number <= 100 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers from 1 to 100")
    return numbers


def _check_settings(path: Path, settings: dict[str, str | int]) -> None:
    """Writes the settings of a folder. Raises ConfigError where it has others."""
    text = json.dumps(settings, indent=1)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{path.parent} is of other pictures or settings, see {path.name}; give another folder")
    atomic_write(path, text.encode())


if __name__ == "__main__":
    signals.prepare()
    sys.exit(signals.outcome(main))
