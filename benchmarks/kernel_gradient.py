"""Gradient of a 3x3 kernel on a CPU: XLA's own, that by matrix products of `ops.cpu_gradients.convolve`, our kernel's.

    python benchmarks/kernel_gradient.py

Prints JSON: for each shape (batch, height, width, channels in, out, stride) the median milliseconds of each, taking
turns, and how many times as fast as products the kernel is.
"""

import json
import time

import jax
import numpy as np

from tcm_jax.ops import Target, cpu_gradients, training_target

SHAPES = [
    (2, 128, 128, 128, 128, 1),
    (2, 64, 64, 128, 512, 1),
    (2, 64, 64, 128, 128, 1),
    (2, 128, 128, 64, 64, 1),
    (8, 128, 128, 24, 24, 1),
    (2, 32, 32, 128, 512, 1),
    (2, 16, 16, 224, 128, 1),
    (2, 8, 8, 128, 128, 1),
    (2, 4, 4, 128, 128, 1),
    (2, 256, 256, 3, 128, 2),
    (2, 64, 64, 128, 128, 2),
]
REPEATS = 7


def main() -> None:
    """Measures every shape, prints."""
    print(json.dumps([measure(shape) for shape in SHAPES], indent=1))


def measure(shape: tuple[int, ...]) -> dict:
    """Medians of one shape."""
    batch, height, width, channels, features, stride = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, height, width, channels), np.float32)
    gradient = rng.standard_normal((batch, height // stride, width // stride, features), np.float32)
    kernel = np.zeros((3, 3, channels, features), np.float32)
    functions = {
        "xla": lambda x, k: cpu_gradients.convolve_by_xla(x, k, stride),
        "products": lambda x, k: cpu_gradients.convolve(x, k, stride, Target("cpu")),
        "kernel": lambda x, k: cpu_gradients.convolve(x, k, stride, training_target("cpu")),
    }
    seconds = {name: [] for name in functions}
    programs = {name: pull_back(function, x, gradient, kernel) for name, function in functions.items()}
    for _ in range(REPEATS):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(x, gradient, kernel))
            seconds[name].append(time.perf_counter() - start)
    medians = {name: round(1000 * float(np.median(times)), 2) for name, times in seconds.items()}
    return {"shape": shape, **medians, "ratio": round(medians["products"] / medians["kernel"], 2)}


def pull_back(function, *arrays):
    """The compiled gradient of `function` with regard to its kernel."""

    def gradient_of_kernel(x, gradient, kernel):
        return jax.vjp(lambda k: function(x, k), kernel)[1](gradient)[0]

    return jax.jit(gradient_of_kernel).lower(*arrays).compile()


if __name__ == "__main__":
    main()
