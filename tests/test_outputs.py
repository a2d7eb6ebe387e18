"""Where output goes: names of any bytes, pipes and devices, modes, and nothing half written after a signal."""

import ast
import errno
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import photograph
from golden_files import GOLDEN, WEIGHTS

import tcm_jax
from tcm_jax import cli
from tcm_jax.cli import batch
from tcm_jax.cli.files import Job, Plan, plan
from tcm_jax.errors import ImageError, StreamError, TcmError
from tcm_jax.images.pictures import write_png
from tcm_jax.system import files, signals
from tcm_jax.system.files import atomic_write, descriptor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and modes as Unix has them")
LONGEST = 255  # bytes of a name
ROOT = Path(__file__).parent.parent


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def picture(here) -> Path:
    write_png("a.png", photograph(40, 60))
    return here / "a.png"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["猫" * 84 + "a", "é" * 126 + "abc", "a" * LONGEST, os.fsdecode(b"\xff\xfe" * 100)])
def test_names_as_long_as_names_can_be(here, name):
    assert len(os.fsencode(name)) >= 200
    atomic_write(name, b"whole")
    assert (here / name).read_bytes() == b"whole"
    assert names(here) == [name]


def test_a_temporary_name_is_short(here):
    """Some file systems (eCryptfs) end at 143 bytes."""
    for name in ("猫" * 85, os.fsdecode(b"\xff" * 255), "a"):
        temporary = files.temporary_name(name)
        assert len(os.fsencode(temporary)) <= 143
        temporary.encode()  # so that file systems of Unicode names take it


def test_an_overwritten_file_keeps_its_mode(here):
    for mode in (0o600, 0o640, 0o755, 0o444):
        (here / "a").write_bytes(b"")
        (here / "a").chmod(mode)
        atomic_write("a", b"new")
        assert stat.S_IMODE((here / "a").stat().st_mode) == mode
        (here / "a").unlink()
    before = os.umask(0o027)
    try:
        atomic_write("b", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((here / "b").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root may give files away")
def test_an_overwritten_file_keeps_its_owner(here):
    (here / "a").write_bytes(b"")
    os.chown("a", 1234, 2345)
    atomic_write("a", b"new")
    assert ((here / "a").stat().st_uid, (here / "a").stat().st_gid) == (1234, 2345)


def test_a_link_stays_a_link(here):
    (here / "target").write_bytes(b"old")
    (here / "link").symlink_to("target")
    atomic_write("link", b"new")
    assert (here / "link").is_symlink()
    assert (here / "target").read_bytes() == b"new"


def read_from(fifo: Path) -> tuple[threading.Thread, list[bytes]]:
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(fifo.read_bytes()), daemon=True)
    thread.start()
    return thread, found


def test_what_is_no_regular_file_is_written_and_not_replaced(here):
    os.mkfifo("fifo")
    thread, found = read_from(here / "fifo")
    atomic_write("fifo", b"through")
    thread.join(10)
    assert found == [b"through"]
    assert stat.S_ISFIFO((here / "fifo").stat().st_mode)
    (here / "null").symlink_to(os.devnull)
    atomic_write("null", b"nowhere")
    atomic_write(os.devnull, b"nowhere")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert names(here) == ["fifo", "null"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_device_that_takes_nothing():
    with pytest.raises(TcmError, match="cannot write /dev/full: No space left"):
        atomic_write("/dev/full", b"x")


@pytest.mark.parametrize("path", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/thread-self/fd/{}", "link"])
def test_an_open_file_is_appended_to(here, path):
    if path.startswith("/proc") and not Path("/proc/self/fd").exists():
        pytest.skip("no /proc")
    with (here / "log").open("wb") as log:
        if path == "link":
            (here / "link").symlink_to(f"/dev/fd/{log.fileno()}")
        log.write(b"before, ")
        log.flush()
        path = path.format(log.fileno())
        assert descriptor(path) == log.fileno()
        atomic_write(path, b"this, ")
        log.write(b"after")
    assert (here / "log").read_bytes() == b"before, this, after"
    assert descriptor(here / "log") is None


def test_what_was_printed_before_comes_before(here, monkeypatch):
    with (here / "log").open("w") as log:
        monkeypatch.setattr(sys, "stdout", log)
        log.write("before, ")
        atomic_write(f"/dev/fd/{log.fileno()}", b"after")
        monkeypatch.undo()
    assert (here / "log").read_bytes() == b"before, after"


def test_an_open_file_that_is_none(here):
    with pytest.raises(TcmError, match="cannot write /dev/fd/9999: Bad file descriptor"):
        atomic_write("/dev/fd/9999", b"x")


# The place of that function; the cache, the standard streams, and what a training run keeps in its folder.
WRITERS = {"system/files.py", "system/cache.py", "system/signals.py", "training/log.py", "training/workdir.py",
           "training/checkpoints.py"}  # fmt: skip


def writes(call: ast.Call) -> bool:
    """Whether a call writes a file, or puts one in another's place."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    texts = [one.value for one in ast.walk(call) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    to_write = any(re.fullmatch("[wxa]b?[+]?|r?b?[+]", text) for text in texts)
    moves = name in ("rename", "replace") and len(call.args) == 1 and not call.keywords
    return moves or name in ("write_bytes", "write_text") or (name == "open" and to_write)


def test_what_users_name_is_written_by_one_function():
    """So that each output may be a pipe, a device or an open file."""
    package = Path(files.__file__).parent.parent
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Call) and writes(node)}  # fmt: skip
    assert found == WRITERS


def shell(command: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a line of bash in which $tcm is the command."""
    tcm = f"{sys.executable} -m tcm_jax"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "tcm": tcm} | environment
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, check=False, timeout=120)


SPECIAL = [
    "-o /dev/stdout > out.tcm",
    "-o /dev/stdout | cat > out.tcm",
    "-o /dev/fd/1 > out.tcm",
    "-o >(cat > out.tcm); wait $!; sleep 0.3",
    "-o /dev/fd/3 3> out.tcm",
    "-o - > out.tcm",
]


@pytest.mark.slow
@pytest.mark.parametrize("output", SPECIAL)
def test_compress_to_pipes_and_open_files(picture, output):
    plain = shell(f"$tcm compress a.png -o plain.tcm --weights {WEIGHTS}")
    assert (plain.returncode, plain.stderr) == (0, b"")
    done = shell(f"$tcm compress a.png --weights {WEIGHTS} {output}")
    assert done.returncode == 0, done.stderr
    assert Path("out.tcm").read_bytes() == Path("plain.tcm").read_bytes()
    assert names(Path()) == ["a.png", "out.tcm", "plain.tcm"]


def test_a_log_is_appended_to(picture):
    Path("log").write_bytes(b"precious\n")
    done = shell(f"$tcm compress a.png --weights {WEIGHTS} --coder native -o /dev/stdout --overwrite >> log")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b"-: ")  # not into the picture
    log = Path("log").read_bytes()
    assert log.startswith(b"precious\n")
    Path("b.tcm").write_bytes(log.removeprefix(b"precious\n"))
    assert cli.main(["info", "b.tcm"]) == 0


def test_lists_and_standard_input_by_name(picture, capfd):
    assert cli.main(["compress", "a.png", "--weights", str(WEIGHTS), "-o", os.devnull, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["output"] == os.devnull
    assert cli.main(["compress", "gone.png", "--weights", str(WEIGHTS), "--manifest", "/dev/stdout"]) == 1
    assert json.loads(capfd.readouterr().out)["input"] == "gone.png"
    argv = ["a.png", "gone.png", "-o", "out", "--manifest", "/dev/stdout"]
    assert cli.main(["compress", *argv, "--weights", str(WEIGHTS)]) == 1
    assert json.loads(capfd.readouterr().out)["input"] == "gone.png"
    assert cli.main(["compress", "a.png", "a.png", "-o", os.devnull]) == 1
    assert "give -o a folder" in capfd.readouterr().err
    assert cli.main(["compress", "/dev/fd/9999"]) == 1
    assert capfd.readouterr().err.startswith("ConfigError: /dev/fd/9999 has no place beside it; give -o a file")


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="no /dev/stdin")
def test_standard_streams_by_name_are_those_of_a_dash():
    for inputs, output in ((["/dev/stdin"], None), (["-"], "/dev/stdout"), (["/dev/fd/0"], "/dev/fd/1")):
        assert plan(inputs, output, False, frozenset({".png"}), ".tcm").jobs == [Job("-", "-")]


@pytest.mark.skipif(sys.platform != "linux", reason="devices as Linux has them")
def test_devices_are_not_read(capfd, monkeypatch):
    device = "this is a device, and no file"
    for name in ("/dev/null", "/dev/full", "/dev/zero"):
        assert cli.main(["compress", name, "-o", "a.tcm", "--weights", str(WEIGHTS)]) == 1
        assert capfd.readouterr().err == f"ImageError: cannot read {name}: {device}\n"
    assert cli.main(["info", "/dev/zero"]) == 1
    assert capfd.readouterr().err == f"StreamError: cannot read /dev/zero: {device}\n"
    with pytest.raises(ImageError, match=f"^cannot read /dev/zero: {device}$"):
        tcm_jax.compress("/dev/zero")
    with pytest.raises(StreamError, match=f"^cannot read /dev/zero: {device}$"):
        tcm_jax.decompress("/dev/zero")
    with Path("/dev/zero").open() as endless:
        monkeypatch.setattr(sys, "stdin", endless)
        assert cli.main(["info", "-"]) == 1
    assert capfd.readouterr().err == f"StreamError: cannot read standard input: {device}\n"


def test_pipes_and_terminals_are_read(here):
    done = shell(f"cat {GOLDEN}/rgb.tcm | $tcm info /dev/stdin && $tcm info <(cat {GOLDEN}/rgb.tcm)")
    assert (done.returncode, done.stderr) == (0, b"")
    ours, theirs = os.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keyboard, os.fdopen(theirs, "rb") as terminal:
        keyboard.write(b"no file\n\x04")
        done = subprocess.run([sys.executable, "-m", "tcm_jax", "info", "-"], stdin=terminal, capture_output=True,
                              env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"StreamError: standard input: this is not a .tcm file\n")


def test_decompress_says_first_what_a_file_is(picture, capfd):
    before = picture.read_bytes()
    for argv in (["a.png"], ["./a.png"], ["a.png", "--overwrite"]):
        assert cli.main(["decompress", *argv, "--weights", str(WEIGHTS)]) == 1
        assert capfd.readouterr().err == f"StreamError: {argv[0]}: this is not a .tcm file\n"
    Path("b.png").write_bytes(before)
    assert cli.main(["decompress", "a.png", "b.png", "--weights", str(WEIGHTS)]) == 1
    assert capfd.readouterr().err.endswith("is not a .tcm file\n0 done, 2 failed\n")
    assert cli.main(["compress", "a.png", "--weights", str(WEIGHTS)]) == 0
    Path("a.tcm").replace("c.png")
    assert cli.main(["decompress", "c.png", "--weights", str(WEIGHTS)]) == 1
    assert "TcmError: c.png exists" in capfd.readouterr().err
    assert picture.read_bytes() == Path("b.png").read_bytes() == before


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("tcm_jax 0.")


WAITS = """
import os, sys, time
from tcm_jax.cli import commands, entry
from tcm_jax.system import files
def slow(_):
    print("writing", flush=True)
    time.sleep(60)
os.fsync = slow
commands.convert = lambda args: {work}
sys.argv = ["tcm", "convert", "a", "b"]
entry()
"""
IN_THREAD = "__import__('threading').Thread(target=files.atomic_write, args=('b', b'x')).start() or time.sleep(60)"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_leaves_no_temporary_file(here, name):
    program = WAITS.format(work="files.atomic_write('b', b'x')")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"writing\n"
        assert names(here)[0].endswith(".tmp")
        running.send_signal(getattr(signal, name))
        assert running.stderr.read() == b""
    assert running.returncode == 128 + getattr(signal, name)
    assert names(here) == []


def test_a_signal_waits_for_what_a_thread_writes(here):
    program = WAITS.format(work=IN_THREAD).replace("time.sleep(60)\nos", "time.sleep(1)\nos")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        assert running.stderr.read() == b""
    assert running.returncode == 143
    assert names(here) == ["b"]


COMPUTES = "__import__('threading').Thread(target=slow, args=(0,)).start() or time.sleep(60)"


def test_a_signal_waits_for_no_thread_that_computes(here):
    program = WAITS.format(work=COMPUTES).replace("time.sleep(60)\nos", "time.sleep(600)\nos")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        try:
            assert running.wait(60) == 143
        finally:
            running.kill()


COLLECTS = """
import gc, time
from tcm_jax.system import signals
signals.prepare()
def once(phase, _):
    gc.callbacks.clear()
    print(phase, flush=True)
    time.sleep(60)
gc.callbacks.append(once)
gc.collect()
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_that_python_drops_ends_the_program_all_the_same(here, name):
    """In a callback of the garbage collector, of which JAX has one."""
    with subprocess.Popen([sys.executable, "-c", COLLECTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"start\n"
        running.send_signal(getattr(signal, name))
        error = running.stderr.read()
    assert b"Exception ignored" not in error
    assert running.returncode in (128 + getattr(signal, name), -getattr(signal, name))


def test_a_program_that_ignores_sighup_goes_on_doing_so(here):
    """As under nohup."""
    program = WAITS.format(work="files.atomic_write('b', b'x')").replace("time.sleep(60)\nos", "time.sleep(0.5)\nos")
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{program}"
    with subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        running.send_signal(signal.SIGHUP)
    assert running.returncode == 0
    assert names(here) == ["b"]


MAINS = {"tcm_jax/__main__.py": "tcm_jax.cli.main", "evaluate.py": "tcm_jax.evaluation.command.main",
         "train.py": "tcm_jax.system.signals.outcome"}  # fmt: skip


@pytest.mark.parametrize("program", MAINS)
def test_each_program_is_prepared_before_it_works(program):
    """Its streams take any name, and SIGTERM is an exception; here the work is to see that."""
    pytest.importorskip("absl" if program == "train.py" else "tcm_jax")
    module, _, name = MAINS[program].rpartition(".")
    code = f"""
import runpy, signal, sys, {module}
from tcm_jax.system import signals
def work(*_):
    print(sys.stdout.errors, signal.getsignal(signal.SIGTERM) is signals._stop, flush=True)
    return 0
{module}.{name} = work
runpy.run_path({str(ROOT / program)!r}, run_name="__main__")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "backslashreplace True\n"


def test_a_library_installs_no_handlers():
    program = "import signal, tcm_jax, tcm_jax.pillow_plugin, tcm_jax.codec, tcm_jax.cli, tcm_jax.evaluation.command\n"
    program += "assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is signal.SIG_DFL"
    subprocess.run([sys.executable, "-c", program], check=True)


class FullDisk(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_error_that_cannot_be_printed_is_an_exit_status(monkeypatch):
    def fail():
        raise TcmError("no such file")

    monkeypatch.setattr(sys, "stderr", FullDisk())
    assert signals.outcome(fail) == 1


def test_too_little_memory_is_one_sentence(capsys):
    def fail(*_):
        raise MemoryError

    assert signals.outcome(fail) == 1
    assert capsys.readouterr().err == "TcmError: not enough memory\n"
    record = batch.attempt(None, fail, Job("a.png", "a.tcm"))
    assert record == {"input": "a.png", "error": "TcmError: not enough memory for a.png; try --jobs 1"}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_full_disk_stops_no_file(monkeypatch, as_json):
    both, coded = Plan([Job("a", "a.tcm"), Job("b", "b.tcm")], skipped=0, many=False), []

    def engine(jobs):
        for job in jobs:
            coded.append(job.source)
            yield {"input": job.source, "output": job.target}

    monkeypatch.setattr(sys, "stdout", FullDisk())
    with pytest.raises(TcmError, match="what was done could not all be printed: No space left"):
        batch.run(both, engine, str, as_json)
    assert coded == ["a", "b"]
