"""Trains the network within minutes of one GPU that reaches no network: pack what it needs, carry that, train.

Here:   python docs/models/tiny/gpu.py pack PICTURES gpu_carry --wheels
There:  python docs/models/tiny/gpu.py train gpu_carry OUT --seconds 540 (and flags of train.py)

PICTURES is a folder of tars as for train.py. `gpu_carry` has a part of them, and wheels for what a GPU machine with
JAX, Flax and Orbax may lack: with the repository at most 64 MiB. The training goes on from the embedded weights that
have the configuration's name. OUT gets the averaged weights in float16, which
`--config.init_from` takes up, the log and the configuration: files of at most 16 MiB each.
"""

import argparse
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PICTURE_MIB = 42
LARGEST = 16 << 20  # bytes of a file that comes back
WHEELS = ("grain", "array-record", "ml-collections", "tensorboardX", "portpicker")
PLATFORMS = [f"manylinux{version}_x86_64" for version in ("_2_28", "_2_27", "_2_17", "2014")]
FLAGS = ["--config.precision=bfloat16", "--config.data.batch_size=64", "--config.warmup_steps=50",
         "--config.checkpoint_every=500", "--config.keep_checkpoints=1", "--config.data.workers=8"]  # fmt: skip
TRIED = 100  # steps from which the time of a step is known
MARGIN = 60  # seconds for compiling again, the last checkpoint and the export


def pack(pictures: Path, carry: Path, wheels: bool, python: str, mib: float) -> None:
    """Writes pictures.tar, an even part of all of them by bytes, drawn ones without loss as WebP; and wheels."""
    carry.mkdir(parents=True, exist_ok=True)
    files = list(_members(pictures))
    order = np.random.default_rng(0).permutation(len(files))
    used = 0
    with tarfile.open(carry / "pictures.tar", "w") as tar:
        for i in order:
            name, data = files[i]
            if name.endswith(".png"):
                Image.open(io.BytesIO(data)).save(file := io.BytesIO(), "WEBP", lossless=True)
                name, data = f"{name.removesuffix('.png')}.webp", file.getvalue()
            if used + len(data) > mib * 2**20:
                continue
            used += len(data)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    if wheels:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        where = [f"--python-version={python}", "--implementation=cp", *(f"--platform={name}" for name in PLATFORMS)]
        subprocess.run([*command, *where, "--dest", str(carry / "wheels"), *WHEELS], check=True)
    total = sum(file.stat().st_size for file in carry.rglob("*") if file.is_file())
    print(f"{carry}: {used / 2**20:.1f} MiB of pictures, {total / 2**20:.1f} MiB in all")


def _members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile():
                    yield f"{path.stem}_{Path(member.name).name}", tar.extractfile(member).read()


def start(config: str) -> list[str]:
    """The flag that begins with the embedded weights of a configuration's name, if there are any."""
    weights = ROOT / "tcm_jax" / "weights" / f"{Path(config).stem}.safetensors"
    return [f"--config.init_from={weights}"] if weights.exists() else []


def train(carry: Path, out: Path, seconds: float, steps: int, config: str, flags: list[str]) -> None:
    """Runs train.py for at most `steps`, as many as fit, a third of them falling, and exports what there is then."""
    end, workdir = time.monotonic() + seconds, Path("gpu_run").resolve()
    environment, tried = with_wheels(carry, workdir / "site"), min(TRIED, steps - 1)
    run = [sys.executable, str(ROOT / "train.py"), "--config", config, "--workdir", str(workdir),
           f"--config.data.source=folder:{carry / 'pictures.tar'}", *start(config), *FLAGS, *flags]  # fmt: skip
    _call([*run, f"--config.steps={tried}", "--config.fall_steps=1", "--config.log_every=10"], environment, end)
    rows = _rows(workdir)[1:]
    if len(rows) < tried // 10 - 1:
        raise SystemExit(f"{seconds:.0f} s are too few: the first {tried} steps, compiled, take longer here")
    a_step = statistics.median(row["step_seconds"] for row in rows)
    steps = min(steps, tried + max(1, int((end - time.monotonic() - MARGIN) / a_step)))
    print(f"{a_step:.3f} s a step: {steps:,} steps", flush=True)
    _call([*run, f"--config.steps={steps}", f"--config.fall_steps={steps // 3}"], environment, end - MARGIN / 2)
    out.mkdir(parents=True, exist_ok=True)
    export = ["--export", str(out / "weights.safetensors"), "--dtype", "float16"]
    subprocess.run([*run, f"--config.steps={steps}", *export], env=environment, check=True, cwd=ROOT)
    for name in ("metrics.jsonl", "config.json"):
        shutil.copy(workdir / name, out / name)
    large = [file.name for file in out.iterdir() if file.stat().st_size > LARGEST]
    if large:
        raise SystemExit(f"over 16 MiB: {', '.join(large)}")


def with_wheels(carry: Path, site: Path) -> dict[str, str]:
    """The environment with the wheels, if there are any, installed in `site`, where only this run sees them."""
    environment, wheels = dict(os.environ), sorted((carry / "wheels").glob("*.whl"))
    if wheels:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site)]
        subprocess.run([*command, *map(str, wheels)], check=True)
        environment["PYTHONPATH"] = os.pathsep.join([str(site), environment.get("PYTHONPATH", "")])
    return environment


def _call(command: list[str], environment: dict[str, str], end: float) -> None:
    """Runs train.py, and asks it at `end` to save its state and stop."""
    process = subprocess.Popen(command, env=environment, cwd=ROOT)
    try:
        status = process.wait(max(1.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        status = process.wait()
    if status not in (0, 75):
        raise SystemExit(f"train.py ended with status {status}")


def _rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack")
    packing.set_defaults(function=pack)
    packing.add_argument("pictures", type=Path)
    packing.add_argument("carry", type=Path)
    packing.add_argument("--wheels", action="store_true", help="download them")
    packing.add_argument("--python", default="3.12", help="version of the GPU machine's Python")
    packing.add_argument("--mib", type=float, default=PICTURE_MIB, help="of pictures at most; default: %(default)s")
    training = commands.add_parser("train")
    training.set_defaults(function=train)
    training.add_argument("carry", type=lambda text: Path(text).resolve())
    training.add_argument("out", type=lambda text: Path(text).resolve())
    training.add_argument("--seconds", type=float, default=540.0, help="in all")
    training.add_argument("--steps", type=int, default=10**6, help="at most")
    training.add_argument("--config", default="configs/tcm_tiny_psnr.py")
    arguments, flags = parser.parse_known_args()  # the others are train.py's
    if arguments.function is train:
        arguments.flags = flags
    elif flags:
        parser.error(f"unknown: {' '.join(flags)}")
    arguments = vars(arguments)
    arguments.pop("function")(**arguments)
