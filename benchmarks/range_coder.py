"""Times the native range coder on 491,520 symbols; prints one JSON object.

    python benchmarks/range_coder.py

The symbols follow the model's own Gaussian tables, their scales spread as in a trained model: most near the smallest,
few wide ones. Milliseconds are the best of 21 runs on one core after compilation. `start_seconds` is what a new process
spends on importing Numba and loading the compiled coder from its cache on disk, up to the first decoded symbol.
"""

import json
import subprocess
import sys
import time

import numpy as np

from tcm_jax.entropy import coders, tables

SYMBOLS = 491_520  # the latents of a 1024x1536 picture
START = """
import time
import numpy as np
from tcm_jax.entropy import coders
tables = coders.RangeTables(np.array([-16, 0, 30000, 65536], np.int32), np.zeros(1, np.int32))
zero = np.zeros(1, np.int32)
start = time.perf_counter()
encoder = coders.encoder(tables, "native")
encoder.encode(zero, zero)
coders.decoder(tables, encoder.finish()).decode(zero)
print(time.perf_counter() - start)
"""


def flat_prior() -> dict[str, np.ndarray]:
    """A factorized prior of one channel; only the Gaussian tables matter here."""
    shapes = [(3, 1), (3, 3), (3, 3), (3, 3), (1, 3)]
    params = {"quantiles": np.zeros((1, 1, 3))}
    for i, (fan_out, fan_in) in enumerate(shapes):
        params |= {f"matrices_{i}": np.zeros((1, fan_out, fan_in)), f"biases_{i}": np.zeros((1, fan_out, 1))}
        params |= {f"factors_{i}": np.zeros((1, fan_out, 1))}
    return params


def milliseconds(function) -> float:
    times = []
    for _ in range(21):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return round(1000 * min(times), 2)


def main() -> None:
    rng = np.random.default_rng(0)
    built = tables.build_tables(flat_prior())
    scales = np.exp(rng.normal(np.log(0.25), 1.2, SYMBOLS)).astype(np.float32)
    indexes = tables.build_indexes(scales)
    symbols = np.rint(rng.normal(0, np.maximum(scales, 0.11))).astype(np.int32)

    def encode() -> bytes:
        encoder = coders.encoder(built, "native")
        encoder.encode(indexes, symbols)
        return encoder.finish()

    def decode() -> None:
        decoder = coders.decoder(built, stream, "native")
        decoder.decode(indexes)
        decoder.finish()

    stream = encode()
    decode()
    starts = [float(subprocess.check_output([sys.executable, "-c", START])) for _ in range(5)]
    bits = coders.information_content(built, indexes, symbols)
    report = {
        "symbols": SYMBOLS,
        "bytes": len(stream),
        "overhead_percent": round(100 * (8 * len(stream) / bits - 1), 4),
        "encode_ms": milliseconds(encode),
        "decode_ms": milliseconds(decode),
        "start_seconds": round(min(starts), 2),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
