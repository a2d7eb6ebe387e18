"""Where the seconds of encoding and decoding go: every stage of every size, beside what the machine could do at best.

    PYTHONPATH=. python benchmarks/stages.py --models tiny,small,medium,large --sizes 768x512,2048x1365 --repeats 3

Prints JSON: for each model and size the medians of the stages (seconds; those of the slices as lists), each network
stage's GFLOP, its GFLOP/s and the share of the speed of a matrix product of 2048x2048, measured right before and after
(over 1: Winograd's algorithm leaves multiplications out). `other` is what is left of the whole: conversions, Python.
The weights of tiny are the embedded ones; those of the others are untrained, with latents that the range coder has work
with. `first_seconds` is the first encoding and decoding. `--batch` also times batches of g_a and g_s by XLA, in seconds
a picture.
"""

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from codec_vs_reference import synthetic_image, synthetic_weights

from tcm_jax.codec import codec
from tcm_jax.codec.tiled_network import PROGRAMS
from tcm_jax.entropy import coders
from tcm_jax.images.pictures import read_image, write_png
from tcm_jax.model import complexity
from tcm_jax.model.config import padded_size
from tcm_jax.model.tcm import TCM
from tcm_jax.system.process import tune_process
from tcm_jax.weights import files
from tcm_jax.weights.weights import Weights

SIZES = {"small": 64, "medium": 96, "large": 128}  # N
STAGES = {  # program of tiled_network.py: stage, and the parts of `complexity.macs` that it is
    "analysis": ("g_a", ("g_a",)),
    "hyper_analysis": ("h_a", ("h_a",)),
    "hyper_synthesis": ("h_s", ("h_s",)),
    "slice_params": ("slice networks", ("attention", "slices")),
    "second_step": ("second steps", ()),
    "slice_latents": ("LRP", ("LRP",)),
    "synthesis": ("g_s", ("g_s",)),
}
LEFT_OUT_LRP = {"encode": 1, "decode": 0}  # an encoder needs no last decoded slice


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="tiny,small")
    parser.add_argument("--sizes", default="768x512", help="WIDTHxHEIGHT, with commas between")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=0, help="pictures of a batch of g_a and g_s")
    flags = parser.parse_args()
    tune_process()
    rows = []
    for name in flags.models.split(","):
        weights = make_weights(name)
        for size in flags.sizes.split(","):
            width, height = map(int, size.split("x"))
            rows.append({"model": name, "size": size} | measure(weights, height, width, flags.repeats))
        if flags.batch:
            rows.append({"model": name, "batch": flags.batch} | batched(weights, flags.batch, flags.repeats))
    print(json.dumps({"jax": jax.__version__, "device": jax.devices()[0].device_kind, "rows": rows}, indent=1))


def make_weights(name: str) -> Weights:
    """Weights of a size of the network."""
    return files.load_weights(tune="psnr") if name == "tiny" else synthetic_weights(SIZES[name])


class Clock:
    """Seconds by stage: a list, one entry a call."""

    def __init__(self):
        self.seconds: dict[str, list[float]] = {}

    def wrap(self, stage: str, function: Callable) -> Callable:
        """`function`, timed until its result is there."""

        def call(*args, **kwargs):
            start = time.perf_counter()
            result = jax.block_until_ready(function(*args, **kwargs))
            self.seconds.setdefault(stage, []).append(time.perf_counter() - start)
            return result

        return call


class TimedCoder:
    """A range encoder or decoder whose methods are timed."""

    def __init__(self, coder: Any, clock: Clock):
        self._coder, self._clock = coder, clock

    def __getattr__(self, name: str) -> Any:
        return self._clock.wrap("range coding", getattr(self._coder, name))


def measure(weights: Weights, height: int, width: int, repeats: int) -> dict[str, Any]:
    """Both directions of one picture."""
    image, ours = synthetic_image(height, width), codec.Codec(weights, coder="native")
    start = time.perf_counter()
    data = ours.compress(image)
    ours.decompress(data)
    first = time.perf_counter() - start
    directions = {"encode": lambda: ours.compress(image), "decode": lambda: ours.decompress(data)}
    runs: dict[str, list] = {direction: [] for direction in directions}
    peak = [product_speed()]
    for _ in range(repeats):
        for direction, work in directions.items():
            runs[direction].append(timed(work).seconds)
    peak.append(product_speed())
    rows, columns = padded_size(height, width)
    gflop = {part: 2 * macs.total / 1e9 for part, macs in complexity.macs(weights.config, rows, columns).items()}
    machine = max(peak)
    result: dict[str, Any] = {"first_seconds": round(first, 2), "product_gflops": round(machine)}
    for direction, times in runs.items():
        slices, less = weights.config.num_slices, LEFT_OUT_LRP[direction]
        result[direction] = summary(times, gflop, machine, slices, less)
    return result | {"image": image_seconds(image, repeats)}


def timed(work: Callable) -> Clock:
    """The seconds of the stages of one run; those of the whole are "whole"."""
    clock, real = Clock(), (coders.encoder, coders.decoder)
    coders.encoder = lambda *args: TimedCoder(real[0](*args), clock)
    coders.decoder = lambda *args: TimedCoder(real[1](*args), clock)
    programs = {name: clock.wrap(stage, PROGRAMS[name]) for name, (stage, _) in STAGES.items()}
    try:
        with mock.patch.dict(PROGRAMS, programs):
            clock.wrap("whole", work)()
    finally:
        coders.encoder, coders.decoder = real
    return clock


def summary(runs: list[dict], gflop: dict, machine: float, slices: int, less: int) -> dict:
    """Medians over the runs, beside the machine's GFLOP/s; the tiles of a stage are added up."""
    whole = median(run["whole"][0] for run in runs)
    stages: dict[str, dict] = {}
    for stage in runs[0].keys() - {"whole"}:
        seconds = median(sum(run[stage]) for run in runs)
        row: dict[str, Any] = {"seconds": round(seconds, 4), "share": round(seconds / whole, 4)}
        if parts := next((parts for name, parts in STAGES.values() if name == stage), ()):
            work = sum(gflop[part] for part in parts) * ((slices - less) / slices if stage == "LRP" else 1)
            row |= {"gflop": round(work, 2), "gflops": round(work / seconds, 1)}
            row["of_peak"] = round(work / seconds / machine, 3)
        if stage in ("slice networks", "LRP") and len(runs[0][stage]) == slices - (less if stage == "LRP" else 0):
            row["slices"] = [round(median(times), 4) for times in zip(*(run[stage] for run in runs), strict=True)]
        stages[stage] = row
    other = median(run["whole"][0] - sum(sum(run[stage]) for stage in stages) for run in runs)
    stages["other"] = {"seconds": round(other, 4), "share": round(other / whole, 4)}
    return {"seconds": round(whole, 3), "stages": dict(sorted(stages.items(), key=lambda item: -item[1]["seconds"]))}


def product_speed(side: int = 2048) -> float:
    """GFLOP/s of a matrix product, the best of five."""
    a = jnp.ones((side, side))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    return 2 * side**3 / 1e9 / best(lambda: product(a, a))


def best(work: Callable, times: int = 5) -> float:
    """Seconds of the quickest of some runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def batched(weights: Weights, batch: int, repeats: int) -> dict[str, float]:
    """Seconds a picture of 768x512 of the transforms, `batch` pictures at once."""
    model, variables = TCM(weights.config), {"params": weights.params}
    level = jnp.zeros(batch) if weights.config.levels else None
    grid = jnp.zeros((batch, 512, 768, 3)) + jnp.asarray(synthetic_image(512, 768), jnp.float32) / 255
    result = {}
    for method in ("analysis", "synthesis"):
        program = jax.jit(functools.partial(model.apply, level=level, method=method))
        work = functools.partial(program, variables, grid)
        grid = jax.block_until_ready(work())
        result[method] = round(best(work, repeats) / batch, 4)
    return result


def image_seconds(image: np.ndarray, repeats: int) -> dict[str, float]:
    """Reading and writing the picture as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        return {
            "write_png": round(best(lambda: write_png(path, image), repeats), 4),
            "read_png": round(best(lambda: read_image(path), repeats), 4),
        }


if __name__ == "__main__":
    main()
