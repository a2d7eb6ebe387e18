"""The long run: mutated golden files, half of them with every checksum recomputed.

    PYTHONPATH=.:tests python tests/fuzz/run.py --count 200000 [--seed 0] [--failures FOLDER]

Counts outcomes; a failure is an exception that is no TcmError, a picture of another size than declared, a decoding over
ten times as long as that of the intact file (twice in a row, no program being compiled), or, in one file of 16, more
memory than the intact file's doubled and 8 MiB (Python's and NumPy's, by tracemalloc). Prints JSON; exit status 1 if
anything failed, with the files in FOLDER.
"""

import argparse
import contextlib
import json
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from fuzz.mutations import damage, obliging_decoder, outcome, sealed
from golden_files import FILES, GOLDEN, golden_codec

from tcm_jax.codec import Codec
from tcm_jax.codec.container import parse
from tcm_jax.model.config import padded_size
from tcm_jax.system.process import tune_process

LEAST_SECONDS = 0.01  # a file that takes less than that is not told from one that takes that
ALLOWANCE = 8 << 20  # bytes: metadata may unpack to 4 MiB


class Seed:
    """An intact file, its codec, and what decoding it takes."""

    def __init__(self, name: str):
        self.name, self.codec = name, golden_codec(name)
        self.data = (GOLDEN / f"{name}.tcm").read_bytes()
        file = parse(self.data)
        self.max_pixels = int(np.prod(padded_size(file.height, file.width)))
        assert outcome(self.codec, self.data, self.max_pixels) == "picture"
        seconds = sorted(timed(self.codec, self.data, self.max_pixels)[1] for _ in range(5))[2]
        self.seconds = max(seconds, LEAST_SECONDS)
        self.peak = traced(self.codec, self.data, self.max_pixels)[1]


def timed(codec: Codec, data: bytes, max_pixels: int) -> tuple[str, float]:
    """(outcome, seconds of processor time: what else the machine does must not count)."""
    start = time.process_time()
    result = outcome(codec, data, max_pixels)
    return result, time.process_time() - start


def traced(codec: Codec, data: bytes, max_pixels: int) -> tuple[str, int]:
    """(outcome, highest memory in bytes)."""
    tracemalloc.start()
    try:
        return outcome(codec, data, max_pixels), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fuzz(count: int, seed: int, names: Iterable[str] = FILES, failures: Path | None = None) -> dict:
    """Runs `count` files made of the golden files `names`; what came of them."""
    compiled = Counter()
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.update([event]))
    seeds = [Seed(name) for name in names]
    outcomes: dict[str, Counter] = {"damaged": Counter(), "forged": Counter()}
    problems, slowest, largest, start = [], 0.0, 0.0, time.perf_counter()
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        one, other = seeds[i // 2 % len(seeds)], seeds[int(rng.integers(len(seeds)))]
        data = damage(one.data, i // 2 // len(seeds), rng, other.data)
        forged = bool(i % 2)
        data = sealed(data) if forged else data
        if data == one.data:
            continue
        with obliging_decoder() if forged else contextlib.nullcontext():
            try:
                if i // 2 % 16 == 0:
                    result, memory = traced(one.codec, data, one.max_pixels)
                    ratio = (memory - ALLOWANCE) / one.peak
                    largest = max(largest, memory / one.peak)
                    problem = f"memory {memory}" if ratio > 2 else None
                else:
                    before = compiled.total()
                    result, seconds = timed(one.codec, data, one.max_pixels)
                    if seconds > 10 * one.seconds and compiled.total() == before:
                        seconds = min(seconds, timed(one.codec, data, one.max_pixels)[1])
                    if compiled.total() == before:
                        slowest = max(slowest, seconds / one.seconds)
                        problem = f"{seconds:.2f} s" if seconds > 10 * one.seconds else None
                    else:
                        problem = None
            except Exception as error:
                result, problem = type(error).__name__, repr(error)
        outcomes["forged" if forged else "damaged"][result] += 1
        if result == "picture" and not forged:
            problem = "damage was not noticed"
        if problem:
            problems.append({"number": i, "from": one.name, "problem": problem})
            if failures:
                failures.mkdir(parents=True, exist_ok=True)
                (failures / f"{one.name}-{i}.tcm").write_bytes(data)
    return {
        "files": sum(counter.total() for counter in outcomes.values()),
        "outcomes": {kind: dict(counter.most_common()) for kind, counter in outcomes.items()},
        "problems": problems,
        "slowest_over_intact": round(slowest, 2),
        "largest_memory_over_intact": round(largest, 2),
        "seconds": round(time.perf_counter() - start),
    }


def main() -> int:
    """Parses the command line and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=Path)
    args = parser.parse_args()
    tune_process()
    result = fuzz(args.count, args.seed, failures=args.failures)
    print(json.dumps(result, indent=1))
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
