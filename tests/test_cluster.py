"""`--engine ray`: what it plans and refuses, and a cluster of two workers of which one is killed during the job."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest
from conftest import photograph
from golden_files import WEIGHTS

from tcm_jax import cli
from tcm_jax.cli import cluster as engine
from tcm_jax.cli.cluster import ATTEMPTS, workers
from tcm_jax.cli.files import Job
from tcm_jax.images.pictures import write_png

PICTURES = 12
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason='needs pip install ".[ray]"')


def node(cpus: int, gpus: int = 0, alive: bool = True) -> dict:
    resources = {"CPU": float(cpus), "memory": 1e9} | ({"GPU": float(gpus)} if gpus else {})
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "jobs", "files", "expected"),
    [
        ([node(2)], 1, 12, (2, 1, 0)),
        ([node(2)], 2, 12, (1, 2, 0)),
        ([node(1), node(1)], 2, 12, (2, 1, 0)),  # no machine has two CPUs
        ([node(8), node(8), node(8, alive=False)], 2, 1000, (8, 2, 0)),
        ([node(8), node(8)], 2, 3, (2, 2, 0)),  # no more workers than have a file
        ([node(16), node(16, 4), node(3, 2)], 2, 1000, (5, 2, 1)),  # GPUs, where there are CPUs for them
        ([node(0)], 2, 12, (1, 1, 0)),
    ],
)
def test_workers(nodes, jobs, files, expected):
    assert workers(nodes, jobs, files) == expected


def refused(capsys, *argv: str) -> str:
    assert cli.main(["compress", *argv, "--engine", "ray"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_without_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused(capsys, "in") == 'MissingExtraError: --engine ray needs Ray: pip install "tcm_jax[ray]"\n'


def test_what_a_cluster_cannot_do(capsys, monkeypatch):
    ray = mock.MagicMock()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)
    for names in (["-"], ["/dev/stdin", "-o", "a.tcm"], ["a.png", "-o", "/dev/stdout"]):
        assert refused(capsys, *names).startswith("ConfigError: --engine ray works on files")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        where = f"TcmError: there is no Ray cluster to work with at {address} (RAY_ADDRESS): "
        assert refused(capsys, "in") == f"{where}[Errno 111] Connection refused\n"
    ray.init.assert_not_called()


def test_a_pattern_in_a_folder_whose_name_looks_like_one(tmp_path, monkeypatch):
    """Names are made absolute, for the workers, once it is known what the pattern stands for."""
    ray, found = mock.MagicMock(), []
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(engine, "on_cluster", lambda args, command, weights, jobs: found.extend(jobs) or iter(()))
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_png("a.png", photograph(40, 60))
    assert cli.main(["compress", "*.png", "-o", "out/", "--engine", "ray", "--weights", str(WEIGHTS)]) == 0
    assert found == [Job("a.png", "out/a.tcm")]
    assert engine.absolute(found) == [Job(f"{folder}/a.png", f"{folder}/out/a.tcm")]


@pytest.fixture(scope="module")
def cluster():
    """The environment of a client of two workers, and the process whose grandchildren they are."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short, as names of sockets are
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    env = os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    env |= {"PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{Path(__file__).parent.parent}", "RAY_ADDRESS": address}
    ray = Path(sys.executable).with_name("ray")
    command = [ray, "start", "--head", "--block", "--num-cpus=2", f"--port={port}", f"--temp-dir={folder}",
               "--include-dashboard=false", "--object-store-memory=200000000"]  # fmt: skip
    log = Path(folder, "head.log")
    with log.open("wb") as output:
        head = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        until(lambda: "Ray runtime started" in log.read_text(), 120)
        yield env, head
    finally:
        head.terminate()
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def worker_processes(head: subprocess.Popen) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [
        (int(pid), int(parent), name) for pid, parent, name in (line.split(None, 2) for line in listed.splitlines())
    ]
    children = {pid for pid, parent, _ in rows if parent == head.pid}
    return [pid for pid, parent, name in rows if parent in children and name.startswith("ray::MapWorker")]


@contextlib.contextmanager
def started(folder: Path, env: dict, *argv: str, program: tuple[str, ...] = ("-m", "tcm_jax")):
    """The command at work, in a process that does not outlive the test."""
    command = [sys.executable, *program, *argv, "--weights", str(WEIGHTS), "--jobs", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=env, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(*args, **kwargs) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of the command."""
    with started(*args, **kwargs) as process:
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err


def contents(folder: Path) -> dict[str, bytes]:
    """By name, but for what a worker that was killed left under another name."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
@needs_ray
def test_one_of_two_workers_killed_during_the_job(tmp_path, cluster):
    env, head = cluster
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for i in range(PICTURES):
        write_png(tmp_path / "in" / "deep" / f"{i:02}.png", photograph(256, 384, seed=i))
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    assert finished(tmp_path, env, "compress", "in", "-o", "local")[0] == 1
    job = ("compress", "in", "-o", "out", "--engine", "ray", "--manifest", "failed.jsonl")
    out = tmp_path / "out" / "deep"
    with started(tmp_path, env, *job) as process:
        until(lambda: len(list(out.glob("*.tcm"))) >= 2, 600)
        at_work = worker_processes(head)
        os.kill(at_work[0], signal.SIGKILL)
        assert len(list(out.glob("*.tcm"))) < PICTURES - 2
        printed, errors = process.communicate(timeout=600)
    assert (process.returncode, len(at_work)) == (1, 2)
    assert "A worker died or was killed" in errors
    assert f"\n{PICTURES} done, 1 failed\n" in errors
    assert len(printed.splitlines()) == PICTURES
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    failure = json.loads((tmp_path / "failed.jsonl").read_text())
    assert failure["input"] == str(tmp_path / "in" / "broken.png")
    assert failure["error"].startswith("ImageError: ")

    written = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (tmp_path / "in" / "broken.png").unlink()
    status, printed, errors = finished(tmp_path, env, *job)
    assert (status, printed, (tmp_path / "failed.jsonl").read_text()) == (0, "", "")
    assert f"0 done, {PICTURES} skipped that exist" in errors
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == written

    assert finished(tmp_path, env, "decompress", "local", "-o", "local_png")[0] == 0
    assert finished(tmp_path, env, "decompress", "out", "-o", "png", "--engine", "ray")[0] == 0
    assert contents(tmp_path / "png") == contents(tmp_path / "local_png")


@pytest.mark.slow
@needs_ray
def test_a_picture_that_kills_its_workers_is_given_up(tmp_path, cluster):
    env, _ = cluster
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "poison", "c"):
        write_png(tmp_path / "in" / f"{name}.png", photograph(40, 60))
    program = ("-c", "import poisoned; poisoned.main()")
    job = ("compress", "in", "-o", "out", "--engine", "ray", "--manifest", "failed.jsonl")
    status, _, errors = finished(tmp_path, env, *job, program=program)
    assert status == 1
    assert "\n3 done, 1 failed\n" in errors
    assert sorted(contents(tmp_path / "out")) == ["a.tcm", "b.tcm", "c.tcm"]
    failure = json.loads((tmp_path / "failed.jsonl").read_text())
    poison = tmp_path / "in" / "poison.png"
    died = f"TcmError: {ATTEMPTS} workers died at {poison}, or at a file beside it; try --jobs 1"
    assert failure == {"input": str(poison), "error": died}
