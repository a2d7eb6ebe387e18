"""What gpu_day.py runs: every step as a command with its time, in full or as small as a CPU can try."""

import dataclasses
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDE_BAND = 0.01  # decodes whatever the noise, so that all of it is seen
SIDES = ("gpu", "cpu")


@dataclasses.dataclass(frozen=True)
class Step:
    """A command, apart from all others."""

    name: str
    command: tuple[str, ...]
    seconds: float  # at most
    on_cpu: bool = False


@dataclasses.dataclass(frozen=True)
class Size:
    """How much each step does."""

    training: tuple[str, ...]  # flags of docs/models/tiny/gpu.py
    codec: dict[str, tuple[str, ...]]  # network: flags of codec_vs_reference.py
    step: tuple[tuple[str, str], ...]  # (network, precision) of train_step.py, the most wanted first
    step_flags: tuple[str, ...]
    limit: float  # seconds of a step, where nothing else is said


def full(threads: int) -> Size:
    """What is to be measured on a GPU."""
    codec = {name: ("--n", n, "--repeats", "9", "--pictures", "24") for name, n in (("small", "64"), ("large", "128"))}
    bound = ("--threads", str(threads))
    return Size(
        training=(),
        codec={name: (*flags, *bound) for name, flags in codec.items()},
        step=tuple((name, kind) for kind in ("bfloat16", "tf32", "float32") for name in ("small", "large")),
        step_flags=("--batch", "8", "--crop", "256", "--steps", "20", *bound),
        limit=90.0,
    )


def dry(picture: Path) -> Size:
    """Every command once, with the embedded network or the one of configs/smoke.py; `picture` is a small file."""
    weights = ROOT / "tcm_jax" / "weights" / "tcm_tiny_visual.safetensors"
    flags = ("--weights", str(weights), "--image", str(picture), "--repeats", "1", "--pictures", "2")
    smoke = ("--config.data.batch_size=1", "--config.data.workers=0", "--config.validation.source=")
    return Size(
        training=("--config", "configs/smoke.py", "--steps", "21", *smoke),
        codec={"tiny": flags},
        step=(("smoke", "bfloat16"),),
        step_flags=("--batch", "1", "--crop", "128", "--steps", "1"),
        limit=600.0,
    )


def training(size: Size, carry: Path, out: Path, seconds: float) -> list[Step]:
    """The embedded network trained by its card's command."""
    program = str(ROOT / "docs" / "models" / "tiny" / "gpu.py")
    ends = str(seconds - 30)  # it starts no step that would end later, and exports after it
    return [Step("training", (program, "train", str(carry), str(out), "--seconds", ends, *size.training), seconds)]


def portability(size: Size, pictures: str, scratch: Path) -> list[Step]:
    """Pictures encoded on each side and decoded on both, then on the GPU with a band so wide that all noise is seen."""
    return [
        *(step for writer in SIDES for step in _both_ways(size, pictures, scratch, writer, writer, ())),
        *_both_ways(size, pictures, scratch, "gpu", "wide", ("--guard-band", str(WIDE_BAND))),
    ]


def _both_ways(size: Size, pictures: str, scratch: Path, writer: str, name: str, flags: tuple[str, ...]) -> list[Step]:
    program, files = _benchmark("portability"), str(scratch / name)
    results = [str(scratch / f"{name}_on_{reader}.npz") for reader in SIDES]
    encode = Step(f"encode_{name}", (program, "encode", pictures, files, *flags), size.limit, writer == "cpu")
    decode = [
        Step(f"decode_{name}_on_{reader}", (program, "decode", files, result), size.limit, reader == "cpu")
        for reader, result in zip(SIDES, results, strict=True)
    ]
    return [encode, *decode, Step(f"compare_{name}", (program, "compare", *results), size.limit, on_cpu=True)]


def codec(size: Size, reference: Path | None) -> list[Step]:
    """Encoding and decoding, beside the reference where there is a checkout of it."""
    program, beside = _benchmark("codec_vs_reference"), _beside(reference)
    return [Step(f"codec_{name}", (program, *flags, *beside), size.limit) for name, flags in size.codec.items()]


def step(size: Size, reference: Path | None) -> list[Step]:
    """Training steps, beside the reference where there is a checkout of it."""
    program, beside = _benchmark("train_step"), _beside(reference)
    return [
        Step(
            f"step_{name}_{precision}",
            (program, "--config", name, "--precision", precision, *size.step_flags, *beside),
            size.limit,
        )
        for name, precision in size.step
    ]


def _beside(reference: Path | None) -> tuple[str, ...]:
    return ("--reference", str(reference)) if reference else ()


def _benchmark(name: str) -> str:
    return str(ROOT / "benchmarks" / f"{name}.py")


def command(step: Step) -> list[str]:
    """What starts the step: with this Python."""
    return [sys.executable, *step.command]
