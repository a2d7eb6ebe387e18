"""Seconds of an addition of large arrays, before and after glibc is told to keep freed memory, in huge pages.

python benchmarks/freed_memory.py

Prints JSON: medians in milliseconds and their ratio.
"""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.system.memory import keep_freed_memory


def main() -> None:
    """Measures and prints."""
    x = jnp.ones((1, 256, 384, 128))  # a map of the small network at half of 512x768
    add = jax.jit(lambda x: 2 * x + 1)
    before = median_ms(add, x)
    keep_freed_memory()
    after = median_ms(add, x)
    print(json.dumps({"jax": jax.__version__, "before_ms": before, "after_ms": after, "ratio": before / after}))


def median_ms(function, x: jax.Array, repeats: int = 21) -> float:
    """Median of the calls but the first few, which compile and warm up."""
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        function(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(times[3:])), 2)


if __name__ == "__main__":
    main()
