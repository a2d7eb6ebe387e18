"""Programs lowered for GPUs and TPUs on a machine without any, and what must not be in their text."""

import re
from typing import Any

import jax
import numpy as np
from jax import export

from tcm_jax import ops
from tcm_jax.codec.program_calls import program_calls
from tcm_jax.codec.programs import Program
from tcm_jax.codec.tiled_network import PROGRAMS
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.initialization import abstract_params
from tcm_jax.training.start import abstract_state
from tcm_jax.training.step import jit_step

ACCELERATOR = ops.Target("gpu")  # TPUs have the same programs
# What is for CPUs (our kernels, loops over strips of windows), is slow elsewhere (scatters, strided slices: a copy of
# the map on a TPU), or has no place in a program (float64, calls of Python).
FORBIDDEN = ("tcm_jax_", "stablehlo.while", "stablehlo.scatter", r"stablehlo\.slice .*:\d+:\d+", "f64", "callback")


def codec_programs(
    config: ModelConfig, height: int = 128, width: int | None = None
) -> dict[str, tuple[Program, tuple[int, ...], tuple[Any, ...]]]:
    """By name (program, its static arguments, shapes of its grids), for a picture of so many pixels, or a square.

    Those of the last slice.
    """
    found = {}
    for name, args in program_calls(config, height, width or height):
        static = tuple(x for x in args if isinstance(x, int))
        grids = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args[len(static) :])
        found[name] = (PROGRAMS[name], static, grids)
    return found


def lowered_program(target: ops.Target, config: ModelConfig, name: str, platforms: tuple[str, ...]) -> str:
    """StableHLO of a codec's program for `platforms`."""
    program, static, grids = codec_programs(config)[name]
    leaves, structure = jax.tree.flatten(abstract_params(config))
    function = jax.jit(program.traced(target, config, structure, static))
    if platforms == ("cpu",):  # where export refuses our kernels
        return function.lower(leaves, *grids).as_text()
    return export.export(function, platforms=platforms)(leaves, *grids).mlir_module()


def lowered_step(config: Any, side: int = 128) -> str:
    """StableHLO of the training step for GPUs and TPUs."""
    with ops.target(ACCELERATOR):
        step = jit_step(config)
    batch = jax.ShapeDtypeStruct((config.data.batch_size, side, side, 3), np.uint8)
    return export.export(step, platforms=("cuda", "tpu"))(abstract_state(config), batch).mlir_module()


def products(text: str) -> dict[tuple[str, str], int]:
    """How many products and convolutions have a precision ("" is the device's own) and a type of the first operand."""
    found: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        if "stablehlo.dot_general" in line or "stablehlo.convolution" in line:
            precisions = set(re.findall(r"\b(HIGHEST|HIGH|DEFAULT)\b", line)) - {"DEFAULT"}
            operand = re.search(r"tensor<(?:\d+x)*(\w+)>", line.rpartition(" : ")[2])
            key = ("".join(sorted(precisions)), operand.group(1))
            found[key] = found.get(key, 0) + 1
    return found
