"""Slow: the same global batch and seed train alike on 1, 2 and 8 devices, and on two processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tcm_jax.training.checkpoints import RunCheckpoints

ROOT = Path(__file__).parent.parent
STEPS = 20


def start(workdir, devices, *flags):
    # One slice compiles in less time.
    overrides = {"steps": STEPS, "log_every": 1, "checkpoint_every": 1, "keep_checkpoints": 30,
                 "data.batch_size": 8, "validation.source": "", "model.num_slices": 1}  # fmt: skip
    command = ["train.py", "--config", "configs/smoke.py", "--workdir", str(workdir), *flags]
    return launch([*command, *(f"--config.{name}={value}" for name, value in overrides.items())], devices)


def launch(command, devices=1):
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"  # compiles sooner
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start_two(workdir):
    flags = [f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
    return [start(workdir, 1, *flags, f"--process_id={i}") for i in range(2)]


def finish(processes, status=0):
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == status, output[-3000:]
    return outputs


def result(workdir):
    """Losses by step, and the gradient of the first step as Adam's first moments hold it."""
    losses = [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    with RunCheckpoints(workdir / "checkpoints", 1, read_only=True) as checkpoints:
        state = checkpoints.read(1)
    moments = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state["opt_state"]) if "mu" in str(path)]
    return np.array(losses), np.concatenate([np.ravel(leaf) for leaf in moments])


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    finish([start(workdir, 1)])
    return result(workdir)


def compare(one, other, what):
    first = abs(other[0][0] / one[0][0] - 1)
    gradient = np.linalg.norm(other[1] - one[1]) / np.linalg.norm(one[1])
    losses = np.abs(other[0] / one[0] - 1).max()
    print(f"{what}: first loss {first:.1e}, gradients {gradient:.1e}, losses of {STEPS} steps {losses:.1e}")
    assert first <= 1e-6
    assert gradient <= 1e-5
    assert losses <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_devices_agree(one_device, tmp_path, devices):
    finish([start(tmp_path, devices)])
    compare(one_device, result(tmp_path), f"{devices} devices")


@pytest.mark.slow
def test_two_processes_agree(one_device, tmp_path):
    first, second = finish(start_two(tmp_path))
    assert "trained 20 steps" in first
    assert "step 1/20" in first
    assert "step" not in second.partition("skipped")[0]  # the first process writes the logs
    compare(one_device, result(tmp_path), "2 processes")
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both(tmp_path):
    def run():
        coordinator = f"localhost:{free_port()}"
        return [launch(["tests/kill_run.py", str(tmp_path), coordinator, str(i)]) for i in range(2)]

    processes = run()
    while processes[0].poll() is None and not (tmp_path / "checkpoints" / "3").exists():
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    outputs = finish(processes, status=75)
    stops = {re.search(r"stopped by SIGTERM at step (\d+), which is saved", output)[1] for output in outputs}
    assert len(stops) == 1
    assert (tmp_path / "checkpoints" / stops.pop()).exists()
    finish(run())
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(1, 61))
