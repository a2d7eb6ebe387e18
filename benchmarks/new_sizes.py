"""What the first pictures on a machine cost: the very first, and each size that was not seen before; prints JSON.

    python benchmarks/new_sizes.py --sizes 256x256,300x400,512x768

In an empty cache folder, one process encodes and decodes noise of each size (WIDTHxHEIGHT), twice. For each size:
seconds of the first time on the clock and of processor, and those of the second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tcm_jax import Codec
from tcm_jax.system.process import tune_process
from tcm_jax.training.open_weights import open_weights


def main() -> None:
    """Measures in a process of its own; with --here, in this one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256x256,300x400,512x768")
    parser.add_argument("--here", action="store_true", help="with the cache folder that there is")
    flags = parser.parse_args()
    if flags.here:
        tune_process()
        codec = Codec(open_weights(None))
        print(json.dumps([costs(codec, *map(int, size.split("x"))) for size in flags.sizes.split(",")]))
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"XDG_CACHE_HOME": folder}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        subprocess.run([sys.executable, __file__, "--sizes", flags.sizes, "--here"], env=environment, check=True)


def costs(codec: Codec, width: int, height: int) -> dict[str, Any]:
    """Of a size: {"size", "encode", "decode"}, each [clock, processor] of the first time and of the second."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found: dict[str, Any] = {"size": f"{width}x{height}", "encode": [], "decode": []}
    for _ in range(2):
        data, seconds = timed(codec.compress, picture)
        found["encode"].append(seconds)
        found["decode"].append(timed(codec.decompress, data)[1])
    return found


def timed(function: Callable[[Any], Any], argument: Any) -> tuple[Any, list[float]]:
    """(result, [seconds on the clock, of processor])."""
    clock, processor = time.perf_counter(), time.process_time()
    result = function(argument)
    return result, [round(time.perf_counter() - clock, 2), round(time.process_time() - processor, 2)]


if __name__ == "__main__":
    main()
