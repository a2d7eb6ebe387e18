"""Processor seconds of a core for a training picture: read, decoded, cropped, flipped, without the cache of pictures.

    PYTHONPATH=. python benchmarks/input_rate.py PICTURES [--count 100]

PICTURES is a folder or a tar file. Prints JSON; processor time, so that a busy machine disturbs it little.
"""

import argparse
import json
import time

import numpy as np
from scale_compile import commit

from tcm_jax.images.datasets import open_dataset

CROP = 256


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures")
    parser.add_argument("--count", type=int, default=100)
    flags = parser.parse_args()
    source, rng = open_dataset(flags.pictures), np.random.default_rng(0)
    chosen = rng.permutation(len(source))[: flags.count]
    pixels, start = 0, time.process_time()
    for i in chosen:
        picture = np.asarray(source[int(i)])
        pixels += picture.shape[0] * picture.shape[1]
        top, left = (int(rng.integers(max(side - CROP, 0) + 1)) for side in picture.shape[:2])
        np.ascontiguousarray(picture[top : top + CROP, left : left + CROP][:, ::-1])
    seconds = (time.process_time() - start) / len(chosen)
    megapixels = pixels / len(chosen) / 1e6
    result = {"pictures": len(chosen), "megapixels": round(megapixels, 3), "seconds": round(seconds, 5),
              "seconds_a_megapixel": round(seconds / megapixels, 5), "commit": commit()}  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
