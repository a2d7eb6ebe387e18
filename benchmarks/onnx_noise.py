"""How far ONNX's scales are from ours, what the guard band makes of that, and how far the pictures are.

    python benchmarks/onnx_noise.py kodak --qualities 1,20,40,60,80,95
    python benchmarks/onnx_noise.py FOLDER --pictures 8,13 --qualities 30,80

Each picture is compressed, and its file decoded on both: by JAX and its kernels, and by onnxruntime. JSON for each
quality and in all:

- `symbols`; `wrong_alone`, of how many the table is another by ONNX's scale alone; `wrong_in_band`, of how many with
  what the file says of scales near a boundary. One of these would cost a search, or the file.
- `largest_relative`, the largest difference of scales within the tables, relative to them; `margin`, how many times
  that is less than the guard band, which must cover it wherever a boundary lies; `largest_near`, the largest of scales
  that do lie within two guard bands of a boundary.
- `searched`, slices whose first tables were not right; `failed`, files that did not decode.
- `largest_difference` of the pictures in levels, and of how many of their `samples` there is one.
"""

import argparse
import json
import tempfile
from unittest import mock

import numpy as np
import onnxruntime

from tcm_jax.codec import guard_band, symbols
from tcm_jax.codec.codec import Codec
from tcm_jax.codec.container import Container, parse
from tcm_jax.codec.guard_band import GUARD_BAND, decoded_indexes
from tcm_jax.codec.onnx.decoder import OnnxDecoder
from tcm_jax.codec.onnx.export import export_onnx
from tcm_jax.codec.symbols import SymbolReader
from tcm_jax.entropy.table_choice import boundary_positions
from tcm_jax.entropy.tables import build_indexes, scale_table
from tcm_jax.errors import TcmError
from tcm_jax.images.datasets import open_dataset, short_names
from tcm_jax.training.open_weights import open_weights

COUNTED = ("symbols", "wrong_alone", "wrong_in_band", "searched", "failed", "differing", "samples")
LARGEST = ("largest_relative", "largest_near", "largest_difference")


def main() -> None:
    """Parses the command line, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="kodak, samples or a folder")
    parser.add_argument("--qualities", type=_numbers, default=[1.0, 20.0, 40.0, 60.0, 80.0, 95.0])
    parser.add_argument("--pictures", type=_numbers, help="which, from 1 on; default: all")
    parser.add_argument("--weights", help="default: the embedded model")
    flags = parser.parse_args()
    weights, pictures = open_weights(flags.weights), open_dataset(flags.data)
    chosen = range(len(pictures)) if flags.pictures is None else [int(number) - 1 for number in flags.pictures]
    codec = Codec(weights, coder="native", tile=0)
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(folder, weights)
        decoder = OnnxDecoder(folder)
        found = {q: [compared(codec, decoder, pictures[i], q) for i in chosen] for q in flags.qualities}
    result = {
        "model": weights.identity[:16],
        "onnxruntime": onnxruntime.__version__,
        "guard_band": GUARD_BAND,
        "pictures": [short_names(pictures)[i] for i in chosen],
        "qualities": {f"{quality:g}": summed(files) for quality, files in found.items()},
        "all": summed([file for files in found.values() for file in files]),
    }
    print(json.dumps(result, indent=1))


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def compared(codec: Codec, decoder: OnnxDecoder, picture: np.ndarray, quality: float) -> dict:
    """What one file shows. The file is of one piece, without a residual layer."""
    data = codec.compress(picture, quality if codec.weights.config.levels else None)
    file, ours, theirs = parse(data), [], []
    if file.layer or file.tile:
        raise SystemExit(f"quality {quality:g} has a residual layer, or the picture tiles; choose another")
    read_part, possible, taken = SymbolReader.read_part, guard_band.possible_indexes, [0]

    def observed(scales: list[np.ndarray]):
        def read(reader, sigma):
            scales.append(sigma)
            return read_part(reader, sigma)

        return mock.patch.object(SymbolReader, "read_part", read)

    def counted(*args):
        for tried, indexes in enumerate(possible(*args)):
            taken[0] += tried == 1
            yield indexes

    with observed(ours):
        expected = codec.decompress(data)
    with observed(theirs), mock.patch.object(symbols, "possible_indexes", counted):
        try:
            decoded = decoder.decompress(data)
        except TcmError:
            decoded = None
    result = noise(file, ours, theirs) | {"searched": taken[0], "failed": int(decoded is None), "samples": 0}
    if decoded is not None:
        difference = np.abs(decoded.astype(int) - expected)
        result |= {"differing": int((difference > 0).sum()), "samples": difference.size}
        result["largest_difference"] = int(difference.max())
    return result


def noise(file: Container, ours: list[np.ndarray], theirs: list[np.ndarray]) -> dict:
    """Differences of the scales of the slices that both reached."""
    boundaries = scale_table()[:-1].astype(np.float64)
    found, before = dict.fromkeys((*COUNTED, *LARGEST), 0), 0
    for i, (own, other) in enumerate(zip(ours, theirs, strict=False)):
        tables = build_indexes(own)
        relative = np.abs(other.astype(np.float64) - own) / np.abs(own)
        inside = (own > 0.9 * boundaries[0]) & (own < 1.1 * boundaries[-1])
        near = np.zeros(own.size, bool)
        near[boundary_positions(own, 2 * file.guard_band)] = True
        found["symbols"] += own.size
        found["wrong_alone"] += int((build_indexes(other) != tables).sum())
        found["wrong_in_band"] += int((decoded_indexes(file, i, other, before) != tables).sum())
        before += own.size
        for key, where in (("largest_relative", inside), ("largest_near", near.reshape(own.shape))):
            found[key] = max(found[key], float(relative[where].max(initial=0)))
    return found


def summed(files: list[dict]) -> dict:
    """Of several files."""
    total = {key: sum(file[key] for file in files) for key in COUNTED}
    total |= {key: max(file[key] for file in files) for key in LARGEST}
    return total | {"margin": round(GUARD_BAND / total["largest_relative"], 2) if total["largest_relative"] else None}


if __name__ == "__main__":
    main()
