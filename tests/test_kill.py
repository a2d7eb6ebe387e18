"""`tcm compress` of a folder, killed at any moment: no partial file under a final name, and a second run completes."""

import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import photograph
from golden_files import WEIGHTS, golden_codec

from tcm_jax.image import write_png

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
