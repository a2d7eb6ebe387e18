"""A folder of pictures, file to file: `tcm`, the network alone, AVIF and WebP at equal SSIMULACRA 2; prints JSON.

    python benchmarks/folders.py FOLDER [--quality 55] [--repeats 3] [--cores 2]

Megapixels a second, medians of repeats in turns, and bytes of all files. `tcm`: the commands as they are, from their
start, two files at a time. `in memory`: the codec alone, one picture after the other. AVIF (speed 6) and WebP (method
6), by Pillow: each picture at the lowest quality that scores no less than ours, as many files at a time as cores.
Decoding writes PNGs.
"""

import argparse
import bisect
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cores import bind

from tcm_jax.codec import Codec
from tcm_jax.evaluation.codecs import OtherCodec, other_codec
from tcm_jax.evaluation.measure import quality_of
from tcm_jax.images.pictures import read_image, write_png
from tcm_jax.system.process import tune_process
from tcm_jax.training.open_weights import open_weights


def main() -> None:
    """Finds the qualities, then measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quality", type=float, default=55)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    flags = parser.parse_args()
    bind(flags.cores)
    tune_process()
    paths = sorted(path for path in flags.folder.iterdir() if path.suffix in (".png", ".jpg"))
    codec = Codec(open_weights(None))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ways = tcm(flags.folder, folder / "tcm", flags.quality) | in_memory(codec, paths, flags.quality)
        scores = [score(read_image(path), codec, flags.quality) for path in paths]
        others = [folder / name for name in ("avif", "webp")]
        for other in others:
            ways |= by_pillow(other_codec(other.name), paths, scores, other, flags.cores)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(flags.repeats):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
        files = {each.name: sum(file.stat().st_size for file in each.iterdir()) for each in (folder / "tcm", *others)}
    pixels = sum(np.prod(read_image(path).shape[:2]) for path in paths) / 1e6
    speeds = {name: round(pixels / statistics.median(times), 2) for name, times in seconds.items()}
    found = {"pictures": len(paths), "megapixels": round(pixels, 1), "mean_ssimulacra2": statistics.mean(scores)}
    print(json.dumps(found | {"megapixels_a_second": speeds, "seconds": seconds, "bytes": files}, indent=1))


def tcm(folder: Path, target: Path, quality: float) -> dict[str, Callable[[], Any]]:
    """The two commands on a folder."""

    def run(*arguments: object) -> None:
        subprocess.run(["tcm", *map(str, arguments), "--overwrite"], check=True, stdout=subprocess.DEVNULL)

    return {
        "tcm compress": lambda: run("compress", folder, "-o", target, "--quality", quality),
        "tcm decompress": lambda: run("decompress", target, "-o", f"{target}-shown"),
    }


def in_memory(codec: Codec, paths: list[Path], quality: float) -> dict[str, Callable[[], Any]]:
    """The codec without files."""
    pictures = [read_image(path) for path in paths]
    coded: list[bytes] = []

    def compress() -> None:
        coded[:] = [codec.compress(picture, quality) for picture in pictures]

    return {"in memory, compress": compress, "in memory, decompress": lambda: [codec.decompress(x) for x in coded]}


def by_pillow(
    codec: OtherCodec, paths: list[Path], scores: list[float], target: Path, cores: int
) -> dict[str, Callable[[], Any]]:
    """Another codec on the pictures, at the qualities that reach the scores."""
    qualities = [lowest(codec, read_image(path), wanted) for path, wanted in zip(paths, scores, strict=True)]
    target.mkdir()
    shown = target.with_name(f"{target.name}-shown")
    shown.mkdir()

    def compress(path: Path, quality: int) -> None:
        (target / path.stem).write_bytes(codec.compress(read_image(path), quality))

    def decompress(path: Path) -> None:
        write_png(shown / f"{path.stem}.png", codec.decompress((target / path.stem).read_bytes()))

    def all_files(one: Callable[..., Any], *arguments: list) -> None:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(one, *arguments))

    return {
        f"{codec.name} compress": lambda: all_files(compress, paths, qualities),
        f"{codec.name} decompress": lambda: all_files(decompress, paths),
    }


def score(picture: np.ndarray, codec: Codec, quality: float) -> float:
    """SSIMULACRA 2 of our file."""
    return quality_of(picture, codec.encode(picture, quality).reconstruction)["ssimulacra2"]


def lowest(codec: OtherCodec, picture: np.ndarray, wanted: float) -> int:
    """The lowest quality of another codec that scores as much, as if scores grew with it."""

    def reaches(quality: int) -> bool:
        return quality_of(picture, codec.decompress(codec.compress(picture, quality)))["ssimulacra2"] >= wanted

    return bisect.bisect_left(range(101), True, lo=1, hi=100, key=reaches)


if __name__ == "__main__":
    main()
