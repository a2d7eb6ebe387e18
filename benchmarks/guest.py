"""What it costs a host program that the library leaves its process alone: a picture with and without `tune_process`.

    PYTHONPATH=. python benchmarks/guest.py kodim01.png --repeats 7

Prints JSON: for a guest and for a tuned process, median seconds of encoding and decoding in turns, seconds of the first
ones with programs that an earlier process kept, and the most memory of the process.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
from apart import Apart

from tcm_jax.codec import Codec
from tcm_jax.images.pictures import read_image
from tcm_jax.system.process import tune_process
from tcm_jax.weights.files import load_weights


class Guest(Codec):
    """The embedded model in a process whose settings are the host's."""

    def __init__(self):
        super().__init__(load_weights())


class Tuned(Guest):
    """The same after `tune_process`."""

    def __init__(self):
        tune_process()
        super().__init__()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    image = read_image(flags.picture)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # of the processes to come
        os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        for kind in (Guest, Tuned):  # which keep their programs in the same place
            codec = Apart(kind)
            round_trip(codec, image)
            codec.close()
        codecs = {kind.__name__.lower(): Apart(kind) for kind in (Guest, Tuned)}
        runs = [{name: round_trip(codec, image) for name, codec in codecs.items()} for _ in range(flags.repeats + 1)]
        result = {}
        for name, codec in codecs.items():
            found = {"peak_mib": codec.peak_mib()}
            for i, what in enumerate(("encode", "decode")):
                first, *others = (run[name][i] for run in runs)
                found |= {what: round(statistics.median(others), 4), f"first_{what}": round(first, 4)}
            result[name] = found
            codec.close()
    print(json.dumps({"picture": list(image.shape), "repeats": flags.repeats, **result}, indent=1))


def round_trip(codec: Apart, image: np.ndarray) -> tuple[float, float]:
    """Seconds of encoding and of decoding a picture."""
    data, encoding = codec.timed("compress", image)
    return encoding, codec.timed("decompress", data)[1]


if __name__ == "__main__":
    main()
