"""What a GPU has to show, in twelve minutes: training, files between GPU and CPU, times beside the PyTorch reference.

    python docs/models/tiny/gpu.py pack PICTURES gpu_carry --wheels --mib 26       # here, with a network
    PYTHONPATH=. python benchmarks/gpu_day.py gpu_carry KODAK OUT [--reference LIC_TCM]           # there, without

Groups of steps, in this order: `training` (the embedded network by the command of its card, two thirds of the time),
`portability` (the pictures of the folder KODAK encoded on the GPU and the CPU, decoded on both: symbols, pixels, noise
of sigma against the guard band), `codec` and `step` (times of small and large; without `--reference`, a checkout of
jmliu206/LIC_TCM, ours alone). `--groups` runs some of them, as where a command may take ten minutes. Each step is a
process of its own with a limit; what fails, or finds no time left, is said, and the rest runs on. OUT gets results.json
after every step, and what the training leaves: files of at most 16 MiB, no folders. `--dry-run` tries all of it on the
CPU with small networks; without it and without a GPU nothing is run. Exit status 1 if any step failed.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpu_steps
from gpu_steps import Step

from docs.models.tiny.gpu import with_wheels
from tcm_jax.system import cores

GROUPS = ("training", "portability", "codec", "step")
TRAINING_SHARE = 2 / 3
GUARD_BAND = 4e-5  # codec.guard_band.GUARD_BAND; importing it would import JAX here, beside the steps
DRY_RUN_SECONDS = 3600.0
TAIL = 3000  # characters of a failed step's messages that are kept


def main() -> int:
    """Parses the command line, runs the steps, prints what came of them; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("carry", type=_absolute, help="what gpu.py packed")
    parser.add_argument("pictures", type=_absolute, help="a folder of pictures to encode")
    parser.add_argument("out", type=_absolute)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--reference", type=_absolute)
    parser.add_argument("--seconds", type=float, default=720.0, help="in all; default: %(default)s")
    parser.add_argument("--dry-run", action="store_true")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, terminated)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        environment = _environment(with_wheels(flags.carry, scratch / "site"), scratch, flags.dry_run)
        device = _device(environment)
        flags.out.mkdir(parents=True, exist_ok=True)
        results: dict = {"device": device, "dry_run": flags.dry_run, "reference": _about(flags.reference), "steps": {}}
        seconds = DRY_RUN_SECONDS if flags.dry_run else flags.seconds
        end = time.monotonic() + seconds
        for step in _steps(flags, scratch, seconds):
            results["steps"][step.name] = done = run(step, environment, scratch, end - time.monotonic())
            (flags.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
            print(f"{step.name}: {done['status']} ({done['seconds']} s) {facts(done['result'])}", flush=True)
    print(f"tcm_jax beside the reference: {results['reference']}")
    return int(any(done["status"] != "done" for done in results["steps"].values()))


def terminated(*_) -> None:
    """Ends the script and the step that runs: `run` sees to that."""
    sys.exit(128 + signal.SIGTERM)


def _absolute(text: str) -> Path:
    return Path(text).resolve()


def _about(reference: Path | None) -> str:
    return str(reference) if reference else "no checkout was given, so tcm_jax was timed alone"


def _environment(environment: dict[str, str], scratch: Path, dry_run: bool) -> dict[str, str]:
    """Of the steps: the GPU or an error, shared with PyTorch's processes, and programs compiled once."""
    paths = [str(gpu_steps.ROOT), environment.get("PYTHONPATH", "")]
    return environment | {
        "JAX_PLATFORMS": "cpu" if dry_run else "cuda",  # alone: "cuda,cpu" is the CPU where CUDA is missing
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "jax"),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _device(environment: dict[str, str]) -> str:
    """What JAX computes on there, asked in a process of its own: it would take memory in this one."""
    command = [sys.executable, "-c", "import jax; print(jax.__version__, jax.devices()[0].device_kind)"]
    asked = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        sys.exit(f"JAX finds no GPU here ({reason}); --dry-run tries every step on the CPU")
    return f"JAX {asked.stdout.strip()}"


def _steps(flags: argparse.Namespace, scratch: Path, seconds: float) -> list[Step]:
    """Those of the groups that were asked for."""
    size = gpu_steps.dry(_smallest(flags.pictures)) if flags.dry_run else gpu_steps.full(cores.available())
    share = seconds * (TRAINING_SHARE if len(flags.groups) > 1 else 1)
    groups = {
        "training": gpu_steps.training(size, flags.carry, flags.out, share),
        "portability": gpu_steps.portability(size, str(flags.pictures), scratch),
        "codec": gpu_steps.codec(size, flags.reference),
        "step": gpu_steps.step(size, flags.reference),
    }
    return [step for name in GROUPS if name in flags.groups for step in groups[name]]


def _smallest(pictures: Path) -> Path:
    return min((path for path in pictures.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)


def run(step: Step, environment: dict[str, str], scratch: Path, left: float) -> dict:
    """Status, seconds, and what the step printed: its JSON, or its last lines; of a step that failed, the messages."""
    if left < 1:
        return {"status": "not begun: no time left", "seconds": 0.0, "result": None}
    environment = environment | ({"JAX_PLATFORMS": "cpu"} if step.on_cpu else {})
    start, limit = time.monotonic(), min(step.seconds, left)
    with (
        (scratch / "stdout").open("w+", encoding="utf-8") as out,
        (scratch / "stderr").open("w+", encoding="utf-8") as messages,
    ):
        process = subprocess.Popen(
            gpu_steps.command(step), env=environment, cwd=scratch, stdout=out, stderr=messages, start_new_session=True
        )
        try:
            code = process.wait(limit)
            status = "failed" if code else "done"
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # and what it started and left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        done = {"status": status, "seconds": round(time.monotonic() - start, 1), "result": _read(out)}
        messages.seek(0)
        return done if status == "done" else done | {"messages": messages.read()[-TAIL:]}


def _read(out) -> dict | str:
    out.seek(0)
    text = out.read()
    try:
        return json.loads(text)
    except ValueError:
        return text[-TAIL:]


def facts(result: dict | str | None) -> str:
    """One line of a step's result."""
    if not isinstance(result, dict):
        return (result or "").strip().rpartition("\n")[2]
    if "sigma" in result:
        return json.dumps(difference(result))
    if "tcm_jax" not in result:
        return f"{result['failed']} of {len(result['files'])} failed" if "failed" in result else str(result["total"])
    wanted = ("encode_median", "decode_median", "images_per_second", "compile_seconds")
    lines = {
        name: {key: part[key] for key in wanted if key in part}
        for name, part in result.items()
        if isinstance(part, dict) and name.startswith(("tcm_jax", "reference"))
    }
    others = {key: value for key, value in result.items() if key.startswith("speedup") or key == "several"}
    return json.dumps(lines | others)


def difference(compared: dict) -> dict:
    """Whether all files gave the encoder's symbols on both sides, and how far pixels and scales differ."""
    relative = [row[2] for row in compared["sigma"].get("by_scale", {}).values()]
    return {
        "files": compared["files"],
        "all_symbols_equal": compared["failed"] == [0, 0],
        "largest_difference_of_pixels": compared["pictures"]["largest_difference"],
        "largest_relative_difference_of_sigma": max(relative, default=None),
        "in_guard_bands": max(relative, default=0.0) / GUARD_BAND,
    }


if __name__ == "__main__":
    sys.exit(main())
