"""A GPU's first twelve minutes, tried on the CPU; and steps that fail, hang or find no time."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from conftest import photograph
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from benchmarks import gpu_day, gpu_steps  # noqa: E402

PROGRAM = ROOT / "benchmarks" / "gpu_day.py"


@pytest.fixture
def pictures(tmp_path) -> Path:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(photograph(120, 130, 0)).save(tmp_path / "pictures" / "photo.png")
    return tmp_path / "pictures"


def step(code: str, seconds: float = 60) -> gpu_steps.Step:
    return gpu_steps.Step("some", ("-c", code), seconds)


def run(code: str, folder: Path, seconds: float = 60, left: float = 60) -> dict:
    return gpu_day.run(step(code, seconds), dict(os.environ), folder, left)


def test_a_step_gives_its_json_or_its_last_words(tmp_path):
    assert run("print('{\"a\": 1}')", tmp_path)["result"] == {"a": 1}
    assert run("print('some text')", tmp_path)["result"] == "some text\n"


def test_a_failed_step_says_why_and_a_late_one_is_not_begun(tmp_path):
    failed = run("raise SystemExit('no such card')", tmp_path)
    assert failed["status"] == "failed" and "no such card" in failed["messages"]
    assert run("print(1)", tmp_path, left=0.5)["status"] == "not begun: no time left"


def test_a_step_that_hangs_is_stopped_with_what_it_started(tmp_path):
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(child.pid, flush=True); child.wait()"
    )
    stopped = run(code, tmp_path, seconds=3)
    assert stopped["status"] == "stopped after 3 s"
    assert ends(stopped["result"])


def ends(process: int) -> bool:
    """Whether it is gone, or waited for, soon."""
    stat = Path(f"/proc/{process}/stat")
    for _ in range(100):
        try:
            if stat.read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_a_step_ends_with_the_script(tmp_path):
    code = (
        "import os, signal, sys, pathlib; from benchmarks import gpu_day, gpu_steps\n"
        "signal.signal(signal.SIGTERM, gpu_day.terminated)\n"
        "code = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "gpu_day.run(gpu_steps.Step('sleep', ('-c', code), 60), dict(os.environ), pathlib.Path(sys.argv[1]), 60)"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    script = subprocess.Popen([sys.executable, "-c", code, tmp_path], env=os.environ | {"PYTHONPATH": paths})
    written = tmp_path / "stdout"
    while not (written.exists() and written.read_text().strip()):
        assert script.poll() is None
        time.sleep(0.1)
    script.terminate()
    assert script.wait() == 128 + signal.SIGTERM
    assert ends(int(written.read_text()))


def test_a_summary_tells_other_symbols_and_the_noise_in_guard_bands():
    compared = {
        "files": 2,
        "failed": [0, 1],
        "pictures": {"compared": 1, "largest_difference": 1},
        "sigma": {"by_scale": {"0.2": [10, 1e-6, 8e-5], "1": [10, 1e-6, 2e-5]}},
    }
    found = gpu_day.difference(compared)
    assert not found["all_symbols_equal"]
    assert found["in_guard_bands"] == pytest.approx(2)


def test_every_kind_of_result_has_a_line():
    step = {"reference": None, "batch": 8, "tcm_jax": {"images_per_second": 50.0, "first": 1.0}}
    assert gpu_day.facts(step) == '{"tcm_jax": {"images_per_second": 50.0}}'
    beside = {"tcm_jax": {"encode_median": 0.1}, "reference_without_tf32": {"encode_median": 0.2}, "speedup": {}}
    assert gpu_day.facts(beside).startswith('{"tcm_jax": {"encode_median": 0.1}, "reference_without_tf32": {')
    assert gpu_day.facts({"failed": 1, "files": {"a": {}, "b": {}}}) == "1 of 2 failed"
    assert gpu_day.facts({"total": {"bytes": 3}, "files": {}}) == "{'bytes': 3}"
    assert gpu_day.facts("a\nlast\n") == "last"
    assert gpu_day.facts(None) == ""


def test_the_steps_on_the_cpu_are_those_that_decode_there(tmp_path):
    steps = gpu_steps.portability(gpu_steps.full(16), "kodak", tmp_path)
    assert [step.name for step in steps if not step.on_cpu] == [
        "encode_gpu", "decode_gpu_on_gpu", "decode_cpu_on_gpu", "encode_wide", "decode_wide_on_gpu",
    ]  # fmt: skip


def test_without_a_gpu_nothing_runs(pictures, tmp_path):
    result = start(pictures, tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("JAX finds no GPU here (")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_dry_run_does_every_step(pictures, tmp_path):
    result = start(pictures, tmp_path, "--dry-run")
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    steps = written["steps"]
    assert result.returncode == 0, json.dumps(written, indent=1) + result.stderr
    assert {name: done["status"] for name, done in steps.items()} == dict.fromkeys(steps, "done")
    assert len(steps) == 1 + 3 * 4 + 1 + 1
    assert steps["compare_gpu"]["result"]["sigma"]["compared"] > 0
    assert gpu_day.difference(steps["compare_cpu"]["result"])["all_symbols_equal"]
    assert steps["codec_tiny"]["result"]["several"]["tcm_jax"]["decode"] > 0
    assert steps["step_smoke_bfloat16"]["result"]["tcm_jax"]["images_per_second"] > 0
    assert "timed alone" in result.stdout
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert names == {"results.json", "weights.safetensors", "metrics.jsonl", "config.json"}


def start(pictures: Path, tmp_path: Path, *flags: str) -> subprocess.CompletedProcess:
    """gpu_day.py with a pack of the pictures, where no GPU is to be seen."""
    carry = tmp_path / "carry"
    carry.mkdir()
    with tarfile.open(carry / "pictures.tar", "w") as tar:
        tar.add(pictures / "photo.png", "photo.png")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, PROGRAM, carry, pictures, tmp_path / "out", *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True)
