"""Whether every picture comes back exactly, on this software stack and on another; prints JSON.

    python benchmarks/exact.py write FILES PATH ...  # every picture of these files and folders, and made ones, to FILES
    python benchmarks/exact.py read FILES            # decodes what was written, on this or another stack

Each picture that can be read and has at most `--most` pixels is written without loss. Of one in `--every` the first
256 rows and columns are written with errors of up to 12 levels, for which latents go with the layer where they pay.
Sums of the pictures that must come back lie beside the files.
The exit status is 1 if one does not.
"""

import argparse
import hashlib
import json
import sys
import warnings
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.codec.container import parse
from tcm_jax.errors import TcmError
from tcm_jax.images.picture import Picture
from tcm_jax.images.pictures import read_picture
from tcm_jax.weights.files import load_weights

ERROR = 12  # levels, of files with latents
PIECE = 256  # rows and columns of them
SUMS = "sums.json"


def made() -> dict[str, np.ndarray]:
    """Noise, constants, extremes, ramps and patterns of odd sizes, in grey, RGB and with alpha."""
    rng = np.random.default_rng(0)
    pictures = {}
    for height, width in ((1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (2, 2), (3, 5), (16, 16), (17, 31), (129, 257)):
        for channels in (1, 2, 3, 4):
            shape = (height, width, channels)
            rows, columns, _ = np.indices(shape)
            kinds = {
                "noise": rng.integers(0, 256, shape),
                "constant": np.full(shape, rng.integers(0, 256)),
                "extremes": rng.integers(0, 2, shape) * 255,
                "ramp": rows + columns & 255,
                "checkers": (rows + columns) % 2 * 255,
                "few": rng.choice(rng.integers(0, 256, 5), shape),
                "sparse": (rng.random(shape) < 0.01) * 200,
            }
            for kind, values in kinds.items():
                array = values.astype(np.uint8)
                pictures[f"{kind} {height}x{width}x{channels}"] = array[..., 0] if channels == 1 else array
    return pictures


def digest(array: np.ndarray) -> str:
    """SHA-256 of shape and samples."""
    return hashlib.sha256(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def read_pictures(paths: list[Path], most: int, refused: Counter):
    """(name, Picture) of all files that are pictures, and of the made ones."""
    for name, array in made().items():
        yield name, Picture.of(array)
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    for file in filter(Path.is_file, files):
        try:
            picture = read_picture(file)
        except TcmError as error:
            refused[type(error).__name__] += 1
            continue
        if picture.colour.shape[0] * picture.colour.shape[1] > most:
            refused["too large"] += 1
            continue
        yield str(file), picture


def write(codec: Codec, folder: Path, paths: list[Path], most: int, every: int) -> dict:
    """Encodes all, and decodes what was encoded."""
    folder.mkdir(parents=True, exist_ok=True)
    sums, refused, failed, with_latents = {}, Counter(), [], 0
    for i, (name, picture) in enumerate(read_pictures(paths, most, refused)):
        for error in (0, ERROR) if i % every == 0 else (0,):
            if error:
                picture = Picture(picture.colour[:PIECE, :PIECE])
            encoded = codec.encode(picture, max_error=error)
            file = f"{i:05}-{error}.tcm"
            (folder / file).write_bytes(encoded.data)
            sums[file] = digest(encoded.reconstruction)
            off = int(np.abs(encoded.reconstruction.astype(int) - picture.array).max())
            with_latents += parse(encoded.data).has_latents
            if off > error or digest(codec.decompress(encoded.data)) != sums[file]:
                failed.append([name, file])
    (folder / SUMS).write_text(json.dumps(sums), encoding="utf-8")
    return {"files": len(sums), "with latents": with_latents, "not read": dict(refused), "failed": failed}


def read(codec: Codec, folder: Path) -> dict:
    """Decodes all."""
    sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    failed = [file for file, sum_ in sums.items() if digest(codec.decompress((folder / file).read_bytes())) != sum_]
    return {"files": len(sums), "failed": failed}


def main() -> int:
    """Parses the command line, runs one command, prints its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("write", "read"))
    parser.add_argument("files", type=Path)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--most", type=int, default=1 << 20, help="pixels of the largest picture")
    parser.add_argument("--every", type=int, default=20)
    flags = parser.parse_args()
    warnings.simplefilter("ignore")  # of metadata that is left out
    codec = Codec(load_weights(), coder="native")
    if flags.command == "write":
        result = write(codec, flags.files, flags.paths, flags.most, flags.every)
    else:
        result = read(codec, flags.files)
    print(json.dumps({"jax": jax.__version__, **result}, indent=1))
    return int(bool(result["failed"]))


if __name__ == "__main__":
    sys.exit(main())
