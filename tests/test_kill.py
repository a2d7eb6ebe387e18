"""Slow: a run that is killed at random moments, twenty times, ends with the parameters of one that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tcm_jax import run_checkpoints

ROOT = Path(__file__).parent.parent
KILLS = 20


def start(workdir):
    flags = ["--config", "configs/smoke.py", "--config.validation.source=", "--config.checkpoint_every=2"]
    command = [sys.executable, "train.py", *flags, "--workdir", str(workdir)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_killed_runs_end_bit_identical(tmp_path):
    finish(start(tmp_path / "whole"))
    rng, kills, workdir = random.Random(0), 0, tmp_path / "killed"
    while kills < KILLS:
        process, before = start(workdir), newest(workdir)
        # The moment is random in what the run does, not in its start: it makes at least one checkpoint's progress.
        while process.poll() is None and newest(workdir) == before:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1.0))
        if process.poll() is not None:  # it got to the end
            finish(process)
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
    finish(start(workdir))
    print(f"{kills} kills")
    whole, killed = (run_checkpoints.load_run(folder) for folder in (tmp_path / "whole", workdir))
    assert whole[1] == killed[1] == 60
    files = [(folder / "weights.safetensors").read_bytes() for folder in (tmp_path / "whole", workdir)]
    assert files[0] == files[1]
    with run_checkpoints.RunCheckpoints(workdir / "checkpoints", 1, read_only=True) as a, \
            run_checkpoints.RunCheckpoints(tmp_path / "whole" / "checkpoints", 1, read_only=True) as b:  # fmt: skip
        jax.tree.map(np.testing.assert_array_equal, a.read(60), b.read(60))


def newest(workdir):
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=-1)
