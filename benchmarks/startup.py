"""Where a new process that decodes one picture spends its processor time, with a warm cache.

    python benchmarks/startup.py kodim01.tcm

Medians of several processes; processor time is of all threads. The first process warms the cache and does not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def stages(file: Path) -> dict[str, float]:
    """Seconds of processor time by stage, of this process."""
    seconds, last = {}, 0.0

    def lap(stage: str) -> None:
        nonlocal last
        now = time.process_time()
        seconds[stage], last = now - last, now

    from tcm_jax.cli import one_file  # noqa: F401
    from tcm_jax.cli.startup import quick_imports

    lap("Python, NumPy, Pillow")
    with quick_imports():
        from tcm_jax.codec import Codec
        from tcm_jax.codec.programs import on_made
        from tcm_jax.entropy import coders
        from tcm_jax.images.pictures import encode_png
        from tcm_jax.ops import kernels
        from tcm_jax.system.process import tune_process
        from tcm_jax.training.open_weights import open_weights

        lap("our own modules")
        coders.load("auto")
    lap("range coder")
    tune_process()
    kernels.available()
    lap("kernels")
    codec = Codec(open_weights(None))
    lap("weights and their identity")
    loading: list[float] = []
    on_made.append(loading.append)
    data = file.read_bytes()
    codec.decode(data)
    lap("weights arranged")
    picture = codec.decode(data)
    lap("decoding")
    encode_png(picture)
    lap("PNG")
    seconds["weights arranged"] -= sum(loading) + seconds["decoding"]
    return seconds | {f"loading {len(loading)} programs": sum(loading), "JAX was imported": float("jax" in sys.modules)}


def measured(command: list[str]) -> tuple[float, float]:
    """(processor time, 0 on Windows, which does not count it; seconds by the clock) of a process."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    user, system = after.children_user - before.children_user, after.children_system - before.children_system
    return user + system, after.elapsed - before.elapsed


def main() -> None:
    """Prints the tables; with --stages, what one process needed, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--stages", action="store_true")
    flags = parser.parse_args()
    if flags.stages:
        print(json.dumps(stages(flags.file)))
        return
    tcm = [sys.executable, "-m", "tcm_jax"]
    with tempfile.TemporaryDirectory() as folder:
        decompress = [*tcm, "decompress", str(flags.file), "-o", f"{folder}/a.png", "--overwrite"]
        commands = {"tcm --help": [*tcm, "--help"], "tcm decompress": decompress}
        measured(decompress)
        runs = [{name: measured(command) for name, command in commands.items()} for _ in range(flags.runs)]
    for name in commands:
        processor, clock = (statistics.median(run[name][i] for run in runs) for i in range(2))
        print(f"{name:34}{processor:.2f} s of processor time, {clock:.2f} s")
    command = [sys.executable, __file__, str(flags.file), "--stages"]
    found = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(flags.runs)]
    for stage in found[0]:
        print(f"  {stage:32}{statistics.median(run[stage] for run in found):.2f} s")


if __name__ == "__main__":
    main()
