"""Killed at any moment: `tcm compress` leaves no partial file under a final name, training ends as if never killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from golden_files import WEIGHTS, golden_codec

from tcm_jax.images.pictures import write_png
from tcm_jax.training.checkpoints import load_run

ROOT = Path(__file__).parent.parent

PICTURES, KILLS = 40, 20


def outputs(folder) -> dict[str, bytes]:
    """The files under final names."""
    return {path.name: path.read_bytes() for path in folder.glob("*.tcm")}


@pytest.mark.slow
def test_kill_9_leaves_whole_files_and_the_rest_can_be_done(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(PICTURES):
        write_png(tmp_path / "in" / f"{i:02}.png", photograph(40, 60, seed=i))
    command = [sys.executable, "-m", "tcm_jax", "compress", "in", "--weights", str(WEIGHTS), "-o"]
    subprocess.run([*command, "all"], cwd=tmp_path, check=True, capture_output=True)
    expected = outputs(tmp_path / "all")
    assert len(expected) == PICTURES
    rng, out, left_behind = random.Random(0), tmp_path / "out", set()
    out.mkdir()
    for _ in range(KILLS):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([*command, "out"], cwd=tmp_path, **quiet)
        awaited = len(outputs(out)) + rng.randrange(PICTURES // 4)
        while process.poll() is None and len(outputs(out)) < awaited:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = outputs(out)
        assert all(expected[name] == data for name, data in found.items())
        left_behind.add(len(found))
        if len(found) == PICTURES:
            for path in out.iterdir():
                path.unlink()
    assert len(left_behind) > 5  # the kills came at different points
    subprocess.run([*command, "out"], cwd=tmp_path, check=True, capture_output=True)
    assert outputs(out) == expected
    golden_codec("rgb").decompress(expected["00.tcm"])


def rows(folder) -> list[dict]:
    """The log of a run; a line that was being written is no line."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


@pytest.mark.slow
def test_training_killed_twenty_times_ends_bit_for_bit(tmp_path):
    command, environment = [sys.executable, "tests/kill_run.py"], os.environ | {"PYTHONPATH": str(ROOT)}
    settings = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, tmp_path / "whole"], **settings)
    while process.poll() is None and not rows(tmp_path / "whole"):
        time.sleep(0.001)
    begin = time.monotonic()
    assert process.wait() == 0
    longest = min(0.3, 1.5 * (time.monotonic() - begin) / 60)  # so that 60 steps last for all kills
    whole, steps = load_run(tmp_path / "whole")
    assert steps == 60
    rng, killed = random.Random(0), tmp_path / "killed"
    for _ in range(KILLS):
        process = subprocess.Popen([*command, killed], **settings)
        awaited, moment = rng.randrange(3), rng.uniform(0, longest)
        before, begin = len(rows(killed)), time.monotonic()
        while process.poll() is None and len(rows(killed)) < before + awaited and time.monotonic() < begin + 60:
            time.sleep(0.001)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # or it had come to its end, and later ones would kill nothing
    subprocess.run([*command, killed], check=True, **settings)
    ours, steps = load_run(killed)
    assert steps == 60
    np.testing.assert_array_equal(ours["w"], whole["w"])
    assert [(row["step"], row["loss"]) for row in rows(killed)] == [
        (r["step"], r["loss"]) for r in rows(tmp_path / "whole")
    ]
