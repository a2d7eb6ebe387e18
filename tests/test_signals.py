"""Worker processes under signals: none goes on running, what was measured is kept, the exit status says so."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import photograph

from tcm_jax.images.pictures import write_png
from tcm_jax.system import signals

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as Unix has them")


def runs(number: int) -> bool:
    """Whether there is such a process, and not only its exit status."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(number)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def wait(condition) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that in two minutes")


@pytest.fixture
def sweep(tmp_path, request):
    """(the running evaluation, the numbers of its two workers) once two rows are measured and both workers wait."""
    (tmp_path / "in").mkdir()
    for i in range(5):
        write_png(tmp_path / "in" / f"{i}.png", photograph(20, 30, seed=i))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    program = [sys.executable, str(ROOT / "tests" / "slow_sweep.py"), "in", getattr(request, "param", "measuring")]
    with subprocess.Popen(program, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True) as running:  # fmt: skip
        wait(lambda: len(list(tmp_path.glob("*.pid"))) == 2 or running.poll() is not None)
        yield running, [int(path.stem) for path in tmp_path.glob("*.pid")]
        running.kill()


SIGNALS = [(name, everyone) for everyone in (False, True) for name in ("SIGTERM", "SIGHUP", "SIGINT")]


@pytest.mark.parametrize(
    ("name", "everyone"), [SIGNALS[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in SIGNALS[1:])]
)
def test_a_signal_ends_an_evaluation_and_its_workers(sweep, tmp_path, name, everyone):
    """`everyone`: as a terminal sends it, to the whole group."""
    running, workers = sweep
    (os.killpg if everyone else os.kill)(running.pid, getattr(signal, name))
    assert running.wait(60) == 128 + getattr(signal, name)
    assert not [worker for worker in workers if runs(worker)]
    said = running.stderr.read()
    assert said == b"" or (
        (name, everyone) == ("SIGHUP", True) and b"Traceback" not in said
    )  # Python's own helper died
    rows = list((tmp_path / "rows").iterdir())
    assert [path.suffix for path in rows] == [".json", ".json"]


@pytest.mark.parametrize("sweep", ["writing"], indirect=True)
def test_a_signal_takes_away_what_workers_have_half_written(sweep, tmp_path):
    running, workers = sweep
    assert sorted(path.suffix for path in (tmp_path / "rows").iterdir()) == [".json", ".json", ".tmp", ".tmp"]
    running.terminate()
    assert (running.wait(60), running.stderr.read()) == (143, b"")
    assert not any(map(runs, workers))
    assert [path.suffix for path in (tmp_path / "rows").iterdir()] == [".json", ".json"]


@pytest.mark.slow
def test_workers_end_when_their_parent_was_killed(sweep):
    running, workers = sweep
    assert all(map(runs, workers))
    running.kill()
    running.wait()
    wait(lambda: not any(map(runs, workers)))


@pytest.mark.slow
def test_a_worker_that_was_killed_is_an_error_and_no_traceback(sweep, tmp_path):
    running, workers = sweep
    os.kill(workers[0], signal.SIGKILL)
    assert running.wait(60) == 1
    assert running.stderr.read().startswith(
        b"TcmError: a worker process was killed, perhaps for want of memory; the same"
    )
    assert not any(map(runs, workers))
    assert len(list((tmp_path / "rows").glob("*.json"))) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_an_output_that_cannot_be_written_is_told_once():
    """Python, which flushes the streams at its exit, has nothing left to complain of."""
    program = "import sys; from tcm_jax.system import signals; sys.exit(signals.outcome(lambda: print('x')))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True,
                              env=environment, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "TcmError: No space left on device\n")


INTERRUPTED_IMPORT = """
import os, sys, time
from tcm_jax.system import signals
signals.prepare()
def work():
    import interrupted
    time.sleep(60)
sys.exit(signals.outcome(work))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_waits_for_an_import_to_end(tmp_path, name):
    """JAX's C++ modules crash or go on if an exception comes while they are made."""
    imported = f"import os, signal; os.kill(os.getpid(), signal.{name}); open('imported', 'w').close()"
    (tmp_path / "interrupted.py").write_text(imported)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-c", INTERRUPTED_IMPORT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (128 + getattr(signal, name), "")
    assert (tmp_path / "imported").exists()


WRONG = {
    "as JAX is imported": ("import jax", None),
    "later": ("import jax; jax.config.update('jax_numpy_dtype_promotion', 'odd')", "ValueError"),
    "in our own code": ("int('maybe')", "ValueError"),
    "as another is imported": ("import wrong", "ValueError"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_jax_says_of_its_environment_is_an_error_of_the_user(tmp_path, name):
    """And no other ValueError is: it is a fault of ours, and shows where."""
    work, trace = WRONG[name]
    (tmp_path / "wrong.py").write_text("int('maybe')")
    program = (
        f"import sys; from tcm_jax.system import signals\ndef work():\n    {work}\nsys.exit(signals.outcome(work))"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    if trace is None:
        environment["JAX_ENABLE_X64"] = "maybe"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    if trace is None:
        expected = "ConfigError: JAX does not start: invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'\n"
        assert done.stderr == expected
    else:
        assert "Traceback" in done.stderr and done.stderr.splitlines()[-1].startswith(trace)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["/lib/jax/__init__.py", "/lib/jax/_src/config.py"], True),
        (["/lib/jax/_src/config.py"], False),
        (["/lib/jax/__init__.py", "/lib/jax/_src/lib.py"], False),
        (["/lib/jax/__init__.py", "/lib/jax/_src/config.py", "/lib/json.py"], False),
    ],
)
def test_which_errors_are_those_of_jaxs_settings(files, expected):
    def run(number: int) -> None:
        last = number == len(files) - 1
        code = compile("raise ValueError" if last else "go_on()", files[number], "exec")
        exec(code, {"go_on": lambda: run(number + 1)})

    with pytest.raises(ValueError) as caught:
        run(0)
    assert signals._is_of_jax_settings(caught.value) == expected
