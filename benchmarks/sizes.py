"""Megapixels a second and most memory by size of picture: does a large or odd one cost more than 768x512?

    python benchmarks/sizes.py --sizes 768x512,2048x1358,4000x3000,12000x9000 --count 6

Sizes are those given and `--count` random ones of 1 to 30 megapixels. Each is encoded and decoded in a process of its
own, once and then `--repeats` times, of which medians are printed, beside the seconds of the first time. The first run
on a machine compiles, which takes memory, too: run it twice. `padded` is the speed in pixels of the padded picture.
`tile` is the file's (0: one piece). Only figures of one run compare.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.codec.container import parse
from tcm_jax.model.config import padded_size
from tcm_jax.system.memory import peak_resident_bytes
from tcm_jax.system.process import tune_process
from tcm_jax.training.open_weights import open_weights


def picture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth colours and a little noise, uint8 [height, width, 3]; by strips, as its floats must not be the most."""
    image, periods = np.empty((height, width, 3), np.uint8), rng.uniform(20, 200, (3, 2))
    for top in range(0, height, 128):
        rows, columns = np.ogrid[top : min(top + 128, height), :width]
        waves = [127 + 90 * np.sin(rows / a + columns / b) for a, b in periods]
        noise = rng.normal(0, 3, (rows.size, width))
        image[top : top + 128] = np.clip(np.stack([wave + noise for wave in waves], axis=-1), 0, 255)
    return image


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """(height, width) of 1 to 30 megapixels, at most twice as long as high or the other way round."""
    pixels, ratio = np.exp(rng.uniform(np.log(1e6), np.log(30e6))), np.exp(rng.uniform(-np.log(2), np.log(2)))
    return round((pixels / ratio) ** 0.5), round((pixels * ratio) ** 0.5)


def timed(function, argument, repeats: int) -> tuple[object, float, float]:
    """(result, seconds of the first call, median of the others)."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        result = function(argument)
        seconds.append(time.perf_counter() - start)
    return result, seconds[0], statistics.median(seconds[1:])


def encoded(size: tuple[int, int], seed: int, repeats: int, tile: int | None) -> tuple[bytes, float, float, int]:
    """(file, seconds of the first time, median of the others, most bytes)."""
    tune_process()
    codec, image = Codec(open_weights(None), tile=tile), picture(*size, np.random.default_rng(seed))
    return *timed(codec.compress, image, repeats), peak_resident_bytes()


def decoded(data: bytes, repeats: int, tile: int | None) -> tuple[float, float, int]:
    """The same of decoding, without what is decoded."""
    tune_process()
    _, first, median = timed(Codec(open_weights(None), tile=tile).decompress, data, repeats)
    return first, median, peak_resident_bytes()


def measure(size: tuple[int, int], seed: int, repeats: int, tile: int | None) -> dict:
    """One size's row."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        data, first_encode, encode, encode_bytes = pool.submit(encoded, size, seed, repeats, tile).result()
        first_decode, decode, decode_bytes = pool.submit(decoded, data, repeats, tile).result()
    pixels, padded = size[0] * size[1] / 1e6, np.prod(padded_size(*size)) / 1e6
    return {
        "size": f"{size[1]}x{size[0]}",
        "megapixels": round(pixels, 2),
        "tile": parse(data).tile,
        "encode": round(pixels / encode, 2),
        "decode": round(pixels / decode, 2),
        "padded": [round(padded / encode, 2), round(padded / decode, 2)],
        "first_seconds": [round(first_encode, 2), round(first_decode, 2)],
        "most_gib": [round(encode_bytes / 2**30, 2), round(decode_bytes / 2**30, 2)],
    }


def main() -> None:
    """Prints one JSON object a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="768x512,2048x1358,4000x3000", help="WIDTHxHEIGHT, comma-separated")
    parser.add_argument("--count", type=int, default=6, help="random sizes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tile", type=int, help="a side for every picture; default: as the codec chooses")
    flags = parser.parse_args()
    rng = np.random.default_rng(flags.seed)
    given = [tuple(map(int, size.split("x")))[::-1] for size in flags.sizes.split(",") if size]
    for size in given + [random_size(rng) for _ in range(flags.count)]:
        print(json.dumps(measure(size, flags.seed, flags.repeats, flags.tile)), flush=True)


if __name__ == "__main__":
    main()
