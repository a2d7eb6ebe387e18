"""What other systems need: files in UTF-8 by name, modules that Windows has, wheels for every one of them."""

import ast
import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from benchmarks import cores
from tcm_jax.system import memory, program_cache
from tcm_jax.system.cores import available

ROOT = Path(__file__).parent.parent
SOURCES = [
    *(path for folder in ("tcm_jax", "configs", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))),
    ROOT / "train.py",
    ROOT / "evaluate.py",
]
NOT_ON_WINDOWS = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog"}
ONLY_ON_LINUX = {"sched_getaffinity", "sched_setaffinity"}


def trees():
    for path in SOURCES:
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


TEXT = {"open": "r", "fdopen": "r", "NamedTemporaryFile": "w+b", "TemporaryFile": "w+b"}  # the mode where none is given
NO_TEXT = {"Image", "os", "tarfile", "zipfile"}  # whose open() gives none


def text_without_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in whatever encoding the system has."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    of = getattr(getattr(call.func, "value", None), "id", "")
    named = {word.arg: word.value for word in call.keywords}
    if "encoding" in named or of in NO_TEXT:
        return False
    if name in ("read_text", "write_text"):
        return len(call.args) <= (name == "write_text")
    if name in TEXT:
        given = [one.value for one in (*call.args, named.get("mode")) if isinstance(one, ast.Constant)]
        modes = [mode for mode in given if isinstance(mode, str) and set(mode) <= set("rwxabt+")]
        return "b" not in (modes or [TEXT[name]])[-1]
    return of == "subprocess" and bool(named.keys() & {"text", "universal_newlines"})


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True), ("path.read_text('utf-8')", False), ("path.write_text(x)", True),
        ("path.write_text(x, encoding='utf-8')", False), ("open(path)", True), ("open(path, 'rb')", False),
        ("path.open('w')", True), ("path.open()", True), ("path.open('xb')", False), ("Image.open(path)", False),
        ("path.open('a', encoding='utf-8')", False), ("subprocess.run(x, text=True)", True),
        ("tempfile.NamedTemporaryFile()", False), ("tempfile.NamedTemporaryFile('w')", True),
    ],
)  # fmt: skip
def test_the_search_for_text_without_encoding(code, found):
    assert text_without_encoding(ast.parse(code).body[0].value) == found


def test_text_is_utf_8_everywhere():
    """Windows has other encodings by default, and so has Linux without a locale."""
    calls = ((path, node) for path, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Call))
    assert not [f"{path}:{call.lineno}" for path, call in calls if text_without_encoding(call)]


def test_nothing_is_imported_that_windows_lacks():
    """Other than where its absence is seen to: in a `try`, or past a question for the system."""
    found = [f"{path}:{node.lineno} {alias.name}" for path, tree in trees() for node in tree.body
             if isinstance(node, ast.Import) for alias in node.names if alias.name in NOT_ON_WINDOWS]  # fmt: skip
    assert not found
    asked = {str(path) for path, tree in trees() for node in ast.walk(tree)
             if isinstance(node, ast.Attribute) and node.attr in ONLY_ON_LINUX}  # fmt: skip
    # These ask whether they are there.
    assert asked == {str(Path("benchmarks", "cores.py")), str(Path("tcm_jax", "system", "cores.py"))}


def test_benchmarks_run_where_processes_are_not_bound(monkeypatch, capsys):
    """As on macOS and Windows."""
    for name in ONLY_ON_LINUX:
        monkeypatch.delattr(os, name, raising=False)
    assert available() == os.cpu_count()
    cores.bind(1)
    assert capsys.readouterr().err.startswith("this system binds no process to cores")


class Function:
    """A function with attributes, as those of ctypes."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)


class Kernel32:
    """Of Windows, as far as `peak_resident_bytes` asks it."""

    def __init__(self, peak: int):
        self.GetCurrentProcess = Function(lambda: -1)
        self.K32GetProcessMemoryInfo = Function(lambda process, counters, size: self._fill(counters._obj, size, peak))

    @staticmethod
    def _fill(counters, size: int, peak: int) -> bool:
        counters.peak_working_set = peak
        return size == 72  # sizeof(PROCESS_MEMORY_COUNTERS) on 64 bits


def test_the_peak_of_memory_on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(memory.ctypes, "WinDLL", lambda name: Kernel32(5 << 30), raising=False)
    assert memory.peak_resident_bytes() == 5 << 30


def test_macs_are_told_apart(monkeypatch):
    """Programs for an M4 may not run on an M1; Python calls both "arm"."""
    said = "Apple M1"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: types.SimpleNamespace(stdout=said))
    first = program_cache._processor()
    said = "Apple M4"
    assert first == "Apple M1" != program_cache._processor()


PLATFORMS = {
    "x86_64-manylinux_2_28": "Linux (x86-64",
    "aarch64-manylinux_2_28": ", ARM64), ",
    "aarch64-apple-darwin": "macOS (ARM64) and ",
    "x86_64-pc-windows-msvc": "Windows (x86-64)",
}  # and what README says of each
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
BUILT_FROM_SOURCE = ("promise",)  # of tensorflow-datasets: Python alone, of which there is no wheel


def resolve(platform: str, python: str, *what: str, **options) -> subprocess.CompletedProcess:
    """uv's choice of wheels for another machine; it fails where one is missing."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--only-binary", ":all:", *what]
    command += ["--python-platform", platform, "--python-version", python]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False, **options)


def test_readme_says_where_it_installs():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    platforms = "".join(PLATFORMS.values())
    assert f"It installs on {platforms}, with Python {PYTHONS[0]} to {PYTHONS[-1]}." in readme
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={PYTHONS[0]}"


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_dependency_has_a_wheel(platform):
    """Asks the package index."""
    for python in PYTHONS:
        core = resolve(platform, python, "pyproject.toml")
        assert core.returncode == 0, core.stderr
    exceptions = [flag for name in BUILT_FROM_SOURCE for flag in ("--no-binary", name)]
    for python in (PYTHONS[0], PYTHONS[-1]):
        everything = resolve(platform, python, "pyproject.toml", "--extra", "all", *exceptions)
        assert everything.returncode == 0, everything.stderr


@pytest.mark.slow
def test_a_missing_wheel_is_noticed():
    answer = resolve("x86_64-pc-windows-msvc", PYTHONS[0], "-", input="uvloop")  # which has none for Windows
    assert answer.returncode != 0
    assert "no wheels" in answer.stderr
