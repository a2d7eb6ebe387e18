"""Slow: a run that is killed at random moments ends with the parameters of one that never was."""

import json
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

from tcm_jax.run_checkpoints import RunCheckpoints

ROOT = Path(__file__).parent.parent
NETWORK = ["train.py", "--config", "configs/smoke.py", "--config.validation.source=", "--config.checkpoint_every=5",
           "--config.log_every=1", "--workdir"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("command", "kills"), [(["tests/kill_run.py"], 20), (NETWORK, 3)], ids=["loop", "network"])
def test_killed_runs_end_bit_identical(tmp_path, command, kills):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(command, whole))
    rng, moments = random.Random(0), []
    while len(moments) < kills:
        process, before = start(command, killed), newest(killed)
        # Random in what the run does, not in its start; every attempt gets a step or a few further.
        while process.poll() is None and newest(killed) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        moments.append(newest(killed))
    finish(start(command, killed))
    print(f"{len(moments)} kills, after the checkpoints {moments}")
    assert len(moments) >= kills / 2
    states = []
    for folder in (whole, killed):
        with RunCheckpoints(folder / "checkpoints", 1, read_only=True) as checkpoints:
            states.append(checkpoints.read(60))
    jax.tree.map(np.testing.assert_array_equal, *states)
    losses = [[(row["step"], row["loss"]) for row in rows(folder)] for folder in (whole, killed)]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == list(range(1, 61))


def start(command, workdir):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *command, str(workdir)], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]


def newest(workdir):
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=-1)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
