"""Compiles the training step of a configuration for devices that this machine lacks, and prints what it needs there.

    pip install "jax[tpu]" jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12      # of JAX's version
    PYTHONPATH=. python benchmarks/scale_compile.py tpu|cuda small|large DEVICES >> benchmarks/scale_compiled.jsonl

For eight crops of 256x256 a device in bfloat16, at XLA's lowest effort. One line of JSON: bytes of arguments and
temporaries a device, bytes that all-reduces take in, and the compiler's own count of FLOPs and of memory traffic.
"""

import argparse
import json
import math
import os
import re
import subprocess
import time

# libtpu reads these when it is loaded: for the compiler alone, of devices that are not there.
TPU = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0",
       "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # fmt: skip
LOWEST_EFFORT = {"JAX_OPTIMIZATION_LEVEL": "O0", "JAX_MEMORY_FITTING_LEVEL": "O0"}
A_DEVICE = 8  # crops, the paper's whole batch
ELEMENT_BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "u8": 1}
ALL_REDUCE = re.compile(r"= (.*?) all-reduce(?:-start)?\(")


def main() -> None:
    """Parses the command line, compiles, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("platform", choices=("tpu", "cuda"))
    parser.add_argument("config", choices=("tiny", "small", "medium", "large"))
    parser.add_argument("devices", type=int, help="1, 4, 8, 64 or 256")
    flags = parser.parse_args()
    os.environ |= {"JAX_PLATFORMS": "cpu", **TPU, **LOWEST_EFFORT}
    os.environ["TPU_ACCELERATOR_TYPE"] = f"v5litepod-{max(4, flags.devices)}"
    print(json.dumps(vars(flags) | compiled(flags.platform, flags.config, flags.devices)), flush=True)


def compiled(platform: str, name: str, devices: int) -> dict:
    """Compiles for a mesh of so many devices, which share the batch and each hold the state."""
    import importlib

    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from tcm_jax.training.start import abstract_state
    from tcm_jax.training.step import jit_step
    from tests.compile_step import topology

    config = importlib.import_module(f"configs.tcm_{name}").get_config()
    config.precision, config.data.batch_size = "bfloat16", A_DEVICE * devices
    mesh = Mesh(np.array(topology(platform, devices).devices[:devices]), ("data",))
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    step = jit_step(config, in_shardings=(whole, split), out_shardings=(whole, whole))
    batch = jax.ShapeDtypeStruct((A_DEVICE * devices, config.data.crop, config.data.crop, 3), np.uint8)
    start = time.process_time()
    program = step.trace(abstract_state(config), batch).lower(lowering_platforms=(platform,)).compile()
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}  # none for CUDA
    return {
        "jax": jax.__version__,
        "commit": commit(),
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "all_reduce": all_reduce_bytes(program.as_text()),
        "flops": cost.get("flops"),
        "traffic": cost.get("bytes accessed"),
        "estimated_seconds": cost.get("optimal_seconds"),
        "processor_seconds": round(time.process_time() - start),
    }


def commit() -> str:
    """The checkout's commit."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, encoding="utf-8"
    ).stdout.strip()


def all_reduce_bytes(hlo: str) -> int:
    """Bytes of the results of all all-reduces of a compiled program, by its text."""
    total = 0
    for shapes in ALL_REDUCE.findall(hlo):
        for dtype, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            total += ELEMENT_BYTES[dtype] * math.prod(int(side) for side in sides.split(",") if side)
    return total


if __name__ == "__main__":
    main()
