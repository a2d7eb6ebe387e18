"""Compiles the training step of a configuration for a GPU or TPU that this machine lacks, and prints its memory.

    JAX_PLATFORMS=cpu python tests/compile_step.py cuda|tpu CONFIG DEVICES [NAME=VALUE ...]

The compilers are those of JAX's plugins: `pip install jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12` and
`pip install jax[tpu]`, of JAX's version.
"""

import ast
import importlib
import sys
from pathlib import Path

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tcm_jax.training.start import abstract_state
from tcm_jax.training.step import jit_step

CROP = 128
TPU_TOPOLOGIES = {4: "v5e:2x2", 8: "v5e:2x4", 64: "v5e:8x8", 256: "v5e:16x16"}  # the smallest that hold so many


def topology(platform: str, devices: int):
    """A description of so many H100s, eight in a machine, or of TPU v5e, as many or more."""
    if platform == "tpu":
        name = next(name for count, name in TPU_TOPOLOGIES.items() if count >= devices)
        return topologies.get_topology_desc(platform="tpu", topology_name=name)
    card = (Path(__file__).parent / "h100.txtpb").read_text()
    machines = f"1x{max(1, devices // 8)}x{min(8, devices)}"  # slices, machines, cards
    return topologies.get_topology_desc(platform="cuda", topology=machines, target_config=card)


def main(platform: str, name: str, devices: str, *changes: str) -> None:
    """Prints the bytes that a device needs besides its arguments and results."""
    count, config = int(devices), importlib.import_module(f"configs.{name}").get_config()
    config.update_from_flattened_dict({key: read(value) for key, value in (c.split("=") for c in changes)})
    mesh = Mesh(np.array(topology(platform, count).devices[:count]), ("data",))
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    step = jit_step(config, in_shardings=(whole, split), out_shardings=(whole, whole))
    batch = jax.ShapeDtypeStruct((4, CROP, CROP, 3), np.uint8)
    lowered = step.trace(abstract_state(config), batch).lower(lowering_platforms=(platform,))
    print(lowered.compile().memory_analysis().temp_size_in_bytes)


def read(value: str):
    """A number or truth value, else the text."""
    try:
        return ast.literal_eval(value)
    except ValueError:
        return value


if __name__ == "__main__":
    main(*sys.argv[1:])
