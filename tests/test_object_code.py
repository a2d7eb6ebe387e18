"""Object code of functions: what is kept is loaded without Numba, and whatever else is there is made again."""

import ast
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy import float64, int32
from test_cache import DAMAGES

from tcm_jax.errors import ConfigError
from tcm_jax.system import compiler, object_code
from tcm_jax.system.machine_code import INTEGER, Array
from tcm_jax.system.object_code import callee, compiled

PACKAGE = Path(__file__).parent.parent / "tcm_jax"


@callee(inline="never")
def _doubled(x):
    return 2 * x


@callee(inline="always")
def _halved(x):
    return x // 2


@compiled(Array(int32, 2), Array(int32, 1, readonly=True), INTEGER)
def add(out, values, number):
    """Rows of out = 2 * values + number // 2; returns how many."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = _doubled(values[j]) + _halved(number)
    return out.shape[0]


@compiled(Array(float64, 1))
def needs_more(values):
    """What is no function of every process."""
    return int(1000 * math.erf(values[0]))


@compiled(INTEGER)
def fails(number):
    if number < 0:
        raise ValueError("negative")
    return number


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of objects, in a new cache, as a new process meets it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    yield tmp_path / "tcm_jax" / "objects"
    forget()


def forget() -> None:
    object_code._address.cache_clear()
    for function in (add, needs_more, fails):
        function.load.cache_clear()


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """Names of the functions that Numba has compiled."""
    names, make = [], compiler.object_code
    monkeypatch.setattr(compiler, "object_code", lambda *args: names.append(args[1]) or make(*args))
    return names


def sums() -> list[list[int]]:
    out = np.zeros((2, 3), np.int32)
    assert add(out, np.arange(3, dtype=np.int32), 11) == 2
    return out.tolist()


EXPECTED = [[5, 7, 9], [5, 7, 9]]


def test_whatever_happens_to_the_file(folder, made):
    assert sums() == EXPECTED
    (path,) = folder.iterdir()
    (folder / "tests.other-0123456789abcdef").write_bytes(b"another object")
    for count, damage in enumerate(DAMAGES, 1):
        forget()
        assert sums() == EXPECTED
        assert len(made) == count  # read, not made
        damage(path)
        forget()
        assert sums() == EXPECTED
        assert len(made) == count + 1, damage
        assert not path.is_symlink() and path.is_file()
    assert not list(folder.glob("*.tmp"))


def test_without_a_folder(folder, made, monkeypatch):
    folder.parent.mkdir()
    folder.write_text("no folder")
    assert sums() == EXPECTED
    forget()
    monkeypatch.setattr(object_code, "cache_folder", lambda: None)
    assert sums() == EXPECTED
    assert made == ["add", "add"]


@pytest.mark.parametrize("what", ["source", "processor", "setting"])
def test_what_it_depends_on(folder, made, monkeypatch, tmp_path, what):
    sums()
    forget()
    object_code._version.cache_clear()
    if what == "source":
        monkeypatch.setattr(object_code, "__file__", str(tmp_path / "object_code.py"))
        for name in ("object_code.py", "compiler.py", "machine_code.py"):
            (tmp_path / name).write_text("another")
    elif what == "processor":
        monkeypatch.setattr(object_code.llvm, "get_host_cpu_name", lambda: "x86-64")
    else:
        monkeypatch.setenv("NUMBA_OPT", "1")
    assert sums() == EXPECTED
    assert made == ["add", "add"]
    object_code._version.cache_clear()


def test_threads_that_come_at_once(folder, made):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: sums(), range(8))) == [EXPECTED] * 8
    assert made == ["add"]


def test_what_other_processes_lack_is_not_kept(folder, made):
    assert needs_more(np.array([0.5])) == 520
    assert list(folder.parent.rglob("*")) == []
    assert made == ["needs_more"]


def test_exceptions(folder):
    assert fails(3) == 3
    with pytest.raises(RuntimeError, match="fails failed"):
        fails(-1)


def test_where_numba_fails_one_sentence_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tcm_jax.system.compiler", None)  # its import fails, as without Numba
    with pytest.raises(ConfigError, match=r"^Numba cannot compile add of .*: ModuleNotFoundError: .*; install tcm_jax"):
        sums()
    assert not folder.exists()
    monkeypatch.setenv("NUMBA_NUM_THREADS", "0")
    with pytest.raises(ConfigError, match=r"; unset .*NUMBA_NUM_THREADS"):
        sums()


def test_where_numba_is_told_to_compile_nothing(folder, monkeypatch):
    monkeypatch.setattr(compiler.config, "DISABLE_JIT", 1)
    assert sums() == EXPECTED
    assert compiler.config.DISABLE_JIT == 1


GOOD = {"out": np.zeros((2, 3), np.int32), "values": np.zeros(3, np.int32), "number": 1}


@pytest.mark.parametrize(
    "bad",
    [
        {"out": np.zeros((2, 3), np.int64)},
        {"out": np.zeros((2, 3), ">i4")},
        {"out": np.zeros(6, np.int32)},
        {"out": np.zeros((3, 2), np.int32).T},
        {"out": np.broadcast_to(np.zeros(3, np.int32), (2, 3))},
        {"out": [[0, 0, 0]]},
        {"values": np.zeros(6, np.int32)[::2]},
        {"values": np.frombuffer(bytes(13), np.int32, count=3, offset=1)},
        {"values": None},
        {"number": 1.0},
        {"number": "1"},
    ],
)
def test_arguments_of_another_kind(bad):
    with pytest.raises(TypeError):
        add(*(GOOD | bad).values())


def test_the_number_of_arguments():
    with pytest.raises(TypeError, match="add takes 3 arguments, not 2"):
        add(GOOD["out"], GOOD["values"])


def test_what_may_only_be_read():
    values = np.arange(3, dtype=np.int32)
    values.flags.writeable = False
    assert add(GOOD["out"], values, 0) == 2
    with pytest.raises(TypeError, match="writable: False"):
        add(np.broadcast_to(values, (1, 3)), values, 0)


def decorated() -> list[str]:
    """module:function of all that `compiled` decorates in the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                ast.unparse(d).startswith("compiled(") for d in node.decorator_list
            ):
                module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
                found.append(f"{module}:{node.name}")
    return found


ALL = """
import importlib, sys
for name in {names!r}:
    module, _, function = name.partition(":")
    getattr(importlib.import_module(module), function).load()
from tcm_jax.ops import kernels
kernels.available()
print("numba" in sys.modules)
"""


def test_everything_of_ours_is_loaded_without_numba():
    """Neither the names of Numba's own library nor an import leads back to it."""
    names = decorated()
    assert len(names) == 8
    command = [sys.executable, "-c", ALL.format(names=names)]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
