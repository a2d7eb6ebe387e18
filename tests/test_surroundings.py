"""Every program of ours in hostile surroundings: it works, or one sentence says why not; never a traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import photograph
from golden_files import GOLDEN, WEIGHTS

from tcm_jax.images.pictures import write_png

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="devices and shells as Linux has them")

PROGRAMS = {
    "compress": f"$tcm compress {{here}}/a.png -o {{here}}/out.tcm --weights {WEIGHTS}",
    "decompress": f"$tcm decompress {{here}}/a.tcm -o {{here}}/out.png --weights {WEIGHTS}",
    "stdin": f"$tcm compress - -o {{here}}/out.tcm --weights {WEIGHTS}",
    "info": "$tcm info {here}/a.tcm",
    "help": "$tcm --help",
    "version": "$tcm --version",
    "usage": "$tcm shrink",
    "convert": "$tcm convert {here}/gone.pth.tar {here}/out.safetensors",
    "analyze": f"$tcm analyze bits {{here}}/gone.png --weights {WEIGHTS} -o {{here}}/out.png",
    "evaluate": f"$tcm evaluate --data {{here}}/gone --weights {WEIGHTS} --output {{here}}/results",
    "evaluate.py": f"$python {ROOT}/evaluate.py --data {{here}}/gone --weights {WEIGHTS} --output {{here}}/results",
    "train.py": f"$python {ROOT}/train.py --config {ROOT}/configs/smoke.py --config.data.source=folder:{{here}}/gone "
    "--workdir {here}/run",
}
COMPUTE = ("compress", "decompress", "stdin", "analyze", "evaluate", "evaluate.py", "train.py")
SURROUNDINGS = {
    "no stdin": "{} <&-",
    "no stdout": "{} >&-",
    "no stderr": "{} 2>&-",
    "no streams": "{} <&- >&- 2>&-",
    "full stdout": "{} > /dev/full",
    "full stderr": "{} 2> /dev/full",
    "no reader": "{} | true; exit ${{PIPESTATUS[0]}}",
    "no home": "unset HOME; {}",
    "no such user": "unset HOME XDG_CACHE_HOME JAX_COMPILATION_CACHE_DIR; PYTHONPATH={here}/nobody:$PYTHONPATH {}",
    "no such home": "unset JAX_COMPILATION_CACHE_DIR; HOME=/proc/nothing XDG_CACHE_HOME= {}",
    "cache is a file": "unset JAX_COMPILATION_CACHE_DIR; XDG_CACHE_HOME={here}/a.png {}",
    "cache cannot be made": "unset JAX_COMPILATION_CACHE_DIR; XDG_CACHE_HOME=/proc/nothing {}",
    "no TMPDIR": "TMPDIR=/proc/nothing {}",
    "no folder": "mkdir {here}/gone; cd {here}/gone; rmdir {here}/gone; {}",
    "ASCII": "PYTHONIOENCODING=ascii:strict {}",
    "C locale": "LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 {}",
    "no GPU": "JAX_PLATFORMS=cuda {}",
    "no truth value": "JAX_ENABLE_X64=maybe {}",
    "few files": "ulimit -n 12; {}",
}
QUICK = {("info", "full stdout"), ("stdin", "no stdin"),
         ("info", "no such user"), ("compress", "no GPU"), ("evaluate.py", "full stderr"),
         ("train.py", "no GPU"), ("compress", "no truth value"), ("train.py", "no truth value"),
         ("evaluate.py", "no truth value")}  # fmt: skip
WIDE = ("compress", "train.py")  # the others meet those surroundings that differ for them
NARROW = ("no streams", "full stdout", "no such user", "no folder", "no GPU")
CASES = [
    pytest.param(program, surroundings, marks=() if (program, surroundings) in QUICK else pytest.mark.slow)
    for program in PROGRAMS
    for surroundings in SURROUNDINGS
    if program in WIDE or surroundings in NARROW or (program, surroundings) in QUICK
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """One for all, so that Numba compiles once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path) -> Path:
    write_png(tmp_path / "a.png", photograph(20, 30))
    (tmp_path / "a.tcm").write_bytes((GOLDEN / "rgb.tcm").read_bytes())
    (tmp_path / "nobody").mkdir()
    (tmp_path / "nobody" / "sitecustomize.py").write_text(
        "import pwd\ndef unknown(_):\n    raise KeyError('uid not found')\npwd.getpwuid = unknown\n"
    )
    return tmp_path


def run(here: Path, cache: Path, program: str, surroundings: str) -> subprocess.CompletedProcess:
    command = SURROUNDINGS[surroundings].format(PROGRAMS[program].format(here=here), here=here)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), "HOME": str(here),
                                "python": sys.executable, "tcm": f"{sys.executable} -m tcm_jax"}  # fmt: skip
    return subprocess.run(["bash", "-c", command], env=environment, cwd=here, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=300, check=False)  # fmt: skip


@pytest.mark.parametrize(("program", "surroundings"), CASES)
def test_a_program_works_or_says_why_not(here, cache, program, surroundings):
    done = run(here, cache, program, surroundings)
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    assert done.returncode in ((0, 1, 2, 141) if surroundings == "no reader" else (0, 1, 2)), done
    told = [line for line in done.stderr.splitlines() if re.match(r"\w+Error: ", line)]
    heard = surroundings not in ("no stderr", "no streams", "full stderr")
    assert len(told) == (done.returncode == 1 and heard), done.stderr
    written = {"compress": "out.tcm", "decompress": "out.png"}.get(program)
    if written and surroundings not in ("no GPU", "no truth value", "few files"):
        assert (here / written).stat().st_size > 0
    if surroundings == "no GPU" and program in COMPUTE:
        assert "ConfigError: JAX has no device to compute on: " in done.stderr
    if surroundings == "no truth value" and program in COMPUTE:
        assert "ConfigError: JAX does not start: invalid truth value 'maybe' for environment" in done.stderr
    if surroundings == "full stdout" and program in ("compress", "decompress", "info", "help", "version"):
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
    assert not [path for path in here.iterdir() if path.suffix == ".tmp"]


HELPS = ["-m tcm_jax --help", "-m tcm_jax compress --help", "-m tcm_jax evaluate --help", "-m tcm_jax --version",
         f"{ROOT}/evaluate.py --help"]  # fmt: skip


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", HELPS)
def test_help_that_cannot_be_written_is_an_error(command, unbuffered):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", f"{sys.executable} {command} > /dev/full"], env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "TcmError: No space left on device\n")


def python(work: str, streams: str) -> subprocess.CompletedProcess:
    """Runs a program of ours that does `work`, with its streams as the shell has them."""
    code = f"import sys; from tcm_jax.system import signals; signals.prepare(); sys.exit(signals.outcome({work}))"
    return subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" {streams}'], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip


@pytest.mark.parametrize(("name", "streams", "said"), [("stdin", "<&-", "input"), ("stdout", ">&-", "output")])
def test_no_bytes_go_through_a_closed_stream(name, streams, said):
    done = python(f"lambda: signals.standard('{name}')", streams)
    assert (done.returncode, done.stderr) == (1, f"TcmError: standard {said} is closed\n")
