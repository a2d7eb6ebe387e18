"""What training the paper's networks on many devices needs: the tables of docs/scale.md, in Markdown.

    PYTHONPATH=. python benchmarks/scale.py

Memory and traffic are the compilers', in scale_compiled.jsonl (scale_compile.py wrote it); multiply-accumulates are
counted in the network's program (tcm_jax/model/complexity.py); the rest is arithmetic with the data sheets' figures
below. Times are rooflines: no device reaches them.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from configs.default import EPOCH
from tcm_jax.model import complexity
from tcm_jax.model.config import reference_config

COMPILED = Path(__file__).with_name("scale_compiled.jsonl")
NETWORKS = {"small": 64, "large": 128}  # N
COUNTS = (1, 8, 64, 256)
A_DEVICE, PAPER_BATCH, CROP = 8, 8, 256  # crops of a device's batch and of the paper's; pixels
PAPER_CROPS = 50 * EPOCH * PAPER_BATCH
STATE = 4 * 4  # bytes a parameter: itself, its moving average, Adam's two moments, in float32
PARTS_IN_BFLOAT16 = ("g_a", "g_s")
# Of a core, by input_rate.py on a tar of 200 JPEG photographs: see docs/scale.md for the commit and the machine.
CORE_SECONDS_A_MEGAPIXEL, MEGAPIXELS = 0.0085, 0.409


@dataclasses.dataclass(frozen=True)
class Device:
    """Figures of one device and of the machine that it is in."""

    name: str
    bfloat16: float  # FLOP/s, dense
    float32: float  # FLOP/s of products of full float32 precision
    memory: float  # bytes
    bandwidth: float  # bytes/s of that memory
    links: dict[int, float]  # bytes/s that a device may send in an all-reduce of up to so many devices
    a_host: int  # devices of one machine
    cores: int  # threads of that machine's processors


# "TPU v5e", cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 16 GB at 819 GB/s, 51.2 TB/s of all-reduces of a pod of 256; a
# float32 product is six of bfloat16. Machine ct5lp-hightpu-8t, cloud.google.com/tpu/docs/v5e: 8 chips, 224 vCPUs.
# "NVIDIA H100 Tensor Core GPU" data sheet, SXM: 989 TFLOP/s (half of the sparse figure), float32 67, 80 GB at
# 3.35 TB/s, NVLink 900 GB/s in both directions. "NVIDIA DGX H100" data sheet: 8 cards, 112 cores (224 threads), an
# adapter of 400 Gb/s for each card: in an all-reduce over machines each of the eight carries an eighth of the bytes.
DEVICES = {
    "tpu": Device("v5e", 197e12, 197e12 / 6, 16e9, 819e9, {256: 51.2e12 / 256}, 8, 224),
    "cuda": Device("H100", 989e12, 67e12, 80e9, 3.35e12, {8: 450e9, 256: 8 * 50e9}, 8, 224),
}


@dataclasses.dataclass(frozen=True)
class Work:
    """What one crop costs, and what the network holds."""

    parameters: int
    bfloat16: float  # FLOPs of a crop, once forward and twice backward
    float32: float


def work(n: int) -> Work:
    """Of the paper's network of this N."""
    config = reference_config(n)
    flops = {part: 6.0 * macs.total for part, macs in complexity.macs(config, CROP, CROP).items()}
    transforms = sum(flops[part] for part in PARTS_IN_BFLOAT16)
    return Work(sum(complexity.parameters(config).values()), transforms, sum(flops.values()) - transforms)


def compute_seconds(network: Work, device: Device, crops: float) -> float:
    """The products of so many crops at the device's peak."""
    return crops * (network.bfloat16 / device.bfloat16 + network.float32 / device.float32)


def step_seconds(network: Work, device: Device, traffic: float) -> float:
    """Roofline of the step of A_DEVICE crops: products, or the memory's traffic where that takes longer."""
    return max(compute_seconds(network, device, A_DEVICE), traffic / device.bandwidth)


def all_reduce_seconds(network: Work, device: Device, count: int) -> float:
    """A ring's time for the gradient in float32: every device sends it nearly twice."""
    link = next(bandwidth for most, bandwidth in device.links.items() if count <= most)
    return 2 * (count - 1) / count * 4 * network.parameters / link


def compiled() -> dict[tuple[str, str, int], dict]:
    """What the compilers said, by platform, network and number of devices; the last of equal ones."""
    rows = [json.loads(line) for line in COMPILED.read_text(encoding="utf-8").splitlines()]
    return {(row["platform"], row["config"], row["devices"]): row for row in rows}


def traffic_of(programs: dict, name: str) -> float:
    """Bytes to and from memory in a step of A_DEVICE crops, by the TPU's compiler, as CUDA's gives none."""
    return programs["tpu", name, 1]["traffic"]


def device_table(programs: dict, networks: dict[str, Work]) -> list[str]:
    """What a device holds and does for a step of A_DEVICE crops."""
    rows = []
    for name, network in networks.items():
        for platform, device in DEVICES.items():
            row = programs[platform, name, 1]
            held = row["arguments"] + row["temporaries"]
            traffic, flops = traffic_of(programs, name), network.bfloat16 + network.float32
            rows.append([
                f"{name}, {device.name}",
                f"{network.parameters / 1e6:.1f}",
                f"{STATE * network.parameters / 1e9:.2f}",
                f"{row['temporaries'] / 1e9:.2f}",
                f"{held / device.memory:.0%}",
                f"{A_DEVICE * flops / 1e12:.2f}",
                f"{network.bfloat16 / flops:.0%}",
                f"{traffic / 1e9:.1f}",
                f"{1e3 * compute_seconds(network, device, A_DEVICE):.1f}",
                f"{1e3 * traffic / device.bandwidth:.1f}",
            ])  # fmt: skip
    heads = ("", "M parameters", "GB of state", "GB of temporaries", "of the memory", "TFLOP", "in bfloat16",
             "GB of traffic", "ms, products", "ms, traffic")  # fmt: skip
    return table(heads, rows)


def count_table(programs: dict, networks: dict[str, Work]) -> list[str]:
    """The paper's crops by the number of devices, A_DEVICE on each; the rest on the most of them."""
    rows = []
    for name, network in networks.items():
        for device in DEVICES.values():
            step = step_seconds(network, device, traffic_of(programs, name))
            reduce = {count: all_reduce_seconds(network, device, count) for count in COUNTS}
            rates = {count: A_DEVICE * count / (step + reduce[count]) for count in COUNTS}  # crops a second
            hours = [PAPER_CROPS / rate / 3600 for rate in rates.values()]
            most = COUNTS[-1]
            cores = rates[most] / most * device.a_host * CORE_SECONDS_A_MEGAPIXEL * MEGAPIXELS
            share = reduce[most] / (step + reduce[most])
            rows.append([f"{name}, {device.name}", *(f"{value:.2g}" for value in hours), f"{hours[-1] * most:.3g}",
                         f"{rates[most]:,.0f}", f"{cores:.1f} of {device.cores}", f"{1e3 * reduce[most]:.1f}",
                         f"{share:.0%}"])  # fmt: skip
    heads = ("", *(f"hours on {count}" for count in COUNTS), "device-hours", "crops/s", "cores a host",
             "ms, all-reduce", "of a step")  # fmt: skip
    return table(heads, rows)


def paper_batch_table(programs: dict, networks: dict[str, Work]) -> list[str]:
    """The paper's batch over as many devices as it has crops; a crop's step is taken as its part of a batch's."""
    rows = []
    for name, network in networks.items():
        for device in DEVICES.values():
            step = step_seconds(network, device, traffic_of(programs, name)) / A_DEVICE
            reduce = all_reduce_seconds(network, device, PAPER_BATCH)
            hours = PAPER_CROPS / PAPER_BATCH * (step + reduce) / 3600
            rows.append([f"{name}, {device.name}", f"{reduce / (step + reduce):.0%}", f"{hours:.2g}",
                         f"{hours * PAPER_BATCH:.2g}"])  # fmt: skip
    return table(("", "all-reduce, of a step", "hours", "device-hours"), rows)


def table(heads: Sequence[str], rows: list[list[str]]) -> list[str]:
    """Lines of Markdown."""
    head, *body = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return [head, "|---" * len(heads) + "|", *body]


def main() -> None:
    """Prints the tables."""
    programs, networks = compiled(), {name: work(n) for name, n in NETWORKS.items()}
    for lines in (device_table, count_table, paper_batch_table):
        print("\n".join(lines(programs, networks)), end="\n\n")
    print(f"the paper's steps: {PAPER_CROPS // PAPER_BATCH:,}; of {COUNTS[-1]} devices with {A_DEVICE} crops each: "
          f"{PAPER_CROPS // (A_DEVICE * COUNTS[-1]):,}")  # fmt: skip
    for (platform, name, count), row in sorted(programs.items()):
        print(f"compiled: {name} for {count} {DEVICES[platform].name}, JAX {row['jax']}, commit {row['commit']}: "
              f"{row['arguments'] / 1e9:.3f} GB of arguments, {row['temporaries'] / 1e9:.3f} of temporaries, "
              f"{row['all_reduce'] / 1e6:.1f} MB all-reduced, {row['processor_seconds']} s")  # fmt: skip


if __name__ == "__main__":
    main()
