"""What an effort costs and gains; prints JSON.

    python benchmarks/effort.py DATA [--pictures 1,4,8] [--crop 256] [--efforts 3,5,8] [--qualities 1,20,40,60,80,95]
        [--tunes psnr,ms-ssim,ssimulacra2] [--step 768x512] [--weights FILE]

`step`: of a search for the first of the tunes, on the first picture in that size, seconds of making the program of
one tile (in an empty cache folder: of compiling it), then the median of ten steps, wall clock and processor; peak
memory of the process then. `pictures`:
for each effort and tune, the BD-rates in percent against effort 0 of the real files of a picture, by PSNR, MS-SSIM and
SSIMULACRA 2, their mean, and the mean seconds of a file. Every file is decoded and compared to the encoder's
reconstruction. DATA is as in `tcm evaluate --data`; pictures count from 1.
"""

import argparse
import json
import time
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

import jax
import numpy as np
from PIL import Image

from tcm_jax.codec import Codec
from tcm_jax.codec.effort import Effort
from tcm_jax.evaluation.bdrate import bd_rate
from tcm_jax.evaluation.measure import quality_of
from tcm_jax.images.datasets import open_dataset
from tcm_jax.images.sources import middle
from tcm_jax.system.memory import peak_resident_bytes
from tcm_jax.system.process import tune_process
from tcm_jax.training.open_weights import open_weights

METRICS = ("psnr", "ms_ssim_db", "ssimulacra2")


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--pictures", type=integers, default=[], help="numbers of pictures; default: all")
    parser.add_argument("--crop", type=int, default=0, help="side of the middle that is taken; default: the whole")
    parser.add_argument("--efforts", type=integers, default=[3, 5, 8])
    parser.add_argument("--qualities", type=integers, default=[1, 20, 40, 60, 80, 95])
    parser.add_argument("--tunes", type=lambda text: text.split(","), default=["psnr"])
    parser.add_argument("--step", default="768x512", help="WIDTHxHEIGHT of the timed step; empty: none is timed")
    parser.add_argument("--weights")
    flags = parser.parse_args()
    tune_process()
    codec = Codec(open_weights(flags.weights))
    report: dict[str, Any] = {"jax": jax.__version__, "model": codec.weights.name, "data": flags.data}
    pictures = open_dataset(flags.data)
    if flags.step:
        width, height = map(int, flags.step.split("x"))
        image = np.asarray(Image.fromarray(pictures[0]).resize((width, height)))
        report["step"] = {"size": flags.step} | step_seconds(codec, image, flags.tunes[0])
    chosen = flags.pictures or range(1, len(pictures) + 1)
    report["pictures"] = {}
    rows: dict[str, list[dict[str, float]]] = {}
    for number in chosen:
        picture = pictures[number - 1]
        picture = middle(picture, flags.crop) if flags.crop else picture
        found = measure(codec, picture, flags.qualities, flags.efforts, flags.tunes)
        report["pictures"][str(number)] = found
        for name, row in found.items():
            rows.setdefault(name, []).append(row)
    report["mean"] = {name: mean_row(each) for name, each in rows.items()}
    print(json.dumps(report, indent=1))


def integers(text: str) -> list[int]:
    """Numbers with commas between."""
    return [int(number) for number in text.split(",")]


def step_seconds(codec: Codec, image: np.ndarray, tune: str) -> dict[str, float]:
    """Seconds of making the program, and of a step."""
    codec.compress(image)
    moments: list[tuple[float, float]] = [(time.perf_counter(), time.process_time())]
    codec.compress(
        image, effort=Effort(2, tune, on_step=lambda *_: moments.append((time.perf_counter(), time.process_time())))
    )
    wall, processor = (np.diff([moment[i] for moment in moments]) for i in range(2))
    return {
        "first_seconds": round(float(wall[0]), 2),  # the program, the hard loss of the start, and one step
        "seconds": round(median(wall[-10:]), 3),
        "processor_seconds": round(median(processor[-10:]), 3),
        "peak_mib": round(peak_resident_bytes() / 2**20),
    }


def measure(
    codec: Codec, image: np.ndarray, qualities: Sequence[int], efforts: Sequence[int], tunes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """By "effort N, tune": BD-rates by metric, and the mean seconds of a file."""
    plain = [point(codec, image, quality, Effort()) for quality in qualities]
    found = {}
    for level in efforts:
        for tune in tunes:
            points = [point(codec, image, quality, Effort(level, tune)) for quality in qualities]
            rates = {metric: rate(plain, points, metric) for metric in METRICS}
            seconds = {"seconds": mean(each["seconds"] for each in points)}
            found[f"effort {level}, {tune}"] = {
                name: value for name, value in rates.items() if value is not None
            } | seconds
    return found


def point(codec: Codec, image: np.ndarray, quality: int, effort: Effort) -> dict[str, float]:
    """Bits a pixel, quality and seconds of one file, decoded."""
    start = time.perf_counter()
    encoded = codec.encode(image, quality, effort=effort)
    seconds = time.perf_counter() - start
    decoded = codec.decompress(encoded.data)
    if not np.array_equal(decoded, encoded.reconstruction):
        raise SystemExit("a file does not decode to the encoder's reconstruction")
    bpp = 8 * len(encoded.data) / (image.shape[0] * image.shape[1])
    return {"bpp": bpp, "seconds": seconds} | quality_of(image, decoded)


def rate(plain: list[dict[str, float]], points: list[dict[str, float]], metric: str) -> float | None:
    """BD-rate in percent; None where the curves do not overlap, or the picture is too small for the metric."""
    curves = [([p["bpp"] for p in curve], [p[metric] for p in curve]) for curve in (plain, points)]
    if any(value is None for _, values in curves for value in values):
        return None
    found = bd_rate(*curves)
    return None if found is None else found.percent


def mean_row(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over pictures, of what all have."""
    return {key: round(mean(row[key] for row in rows), 3) for key in rows[0] if all(key in row for row in rows)}


if __name__ == "__main__":
    main()
