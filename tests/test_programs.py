"""Programs kept on disk: found again without tracing, equal in what they compute, and never needed."""

import dataclasses
import os
import pickle
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcm_jax.codec import making
from tcm_jax.codec.programs import Parameters, Program
from tcm_jax.ops import kernels
from tcm_jax.system import cache, program_cache

pytestmark = pytest.mark.skipif(jax.__version_info__ < (0, 6, 2), reason="nothing is kept on older ones")


@dataclasses.dataclass(frozen=True)
class Config:
    """Stands for a network's configuration."""

    text: str

    def to_json(self) -> str:
        return self.text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(program_cache, "folder_of_programs", lambda: tmp_path / "programs")
    return tmp_path / "programs"


def traced(calls: list):
    def function(config, params, i, x, rest):
        calls.append(i)
        return params["factor"].astype(x.dtype) * x @ x.T + i + sum(rest), x

    return Program(function, precise=True)


X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


PARAMS = Parameters({"another": jnp.ones(3), "factor": jnp.float32(2), "module": {"kernel": jnp.ones((2, 2))}})


def run(program, config, i=3, x=X):
    return [np.asarray(value) for value in program(config, PARAMS, i, x, (x @ x.T, x @ x.T))]


def test_a_new_process_does_not_trace(folder, monkeypatch):
    calls: list = []
    first = run(traced(calls), Config("a"))
    again = run(traced(calls), Config("a"))
    assert calls == [3]
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(program_cache, "folder_of_programs", lambda: None)
    kept_nowhere = run(traced(calls), Config("a"))
    for a, b, c in zip(first, again, kept_nowhere, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    np.testing.assert_allclose(first[0], 4 * X @ X.T + 3, rtol=1e-5, atol=1e-5)


def test_everything_that_matters_makes_a_program_of_its_own(folder):
    calls: list = []
    program = traced(calls)
    config = Config("a")
    for args in ({}, {"i": 4}, {"x": X[:4]}, {"x": X.astype(np.float16)}):
        run(program, config, **args)
    run(program, Config("b"))
    assert calls == [3, 4, 3, 3, 3]
    assert len(list(folder.iterdir())) == len(program) == 5
    run(program, config)
    assert len(program) == 5


@pytest.mark.parametrize("what", ["processor", "flags", "versions"])
def test_what_a_kept_program_depends_on(folder, monkeypatch, what):
    monkeypatch.setattr(program_cache, "_surroundings", program_cache._surroundings.__wrapped__)
    here = program_cache.kept("a program")
    if what == "processor":
        monkeypatch.setattr(program_cache, "_processor", lambda: "another")
    elif what == "flags":
        monkeypatch.setenv("XLA_FLAGS", "--of_another=1")
    else:
        monkeypatch.setattr(program_cache.importlib.metadata, "version", lambda name: "9.9.9")
    assert program_cache.kept("a program") != here


def test_damaged_files_are_made_anew(folder):
    calls: list = []
    run(traced(calls), Config("a"))
    (path,) = folder.iterdir()
    good = path.read_bytes()
    for damaged in (b"", good[:99], bytes(99)):
        path.write_bytes(damaged)
        run(traced(calls), Config("a"))
        assert len(path.read_bytes()) > 100
    assert calls == [3] * 4


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(program_cache, "folder_of_programs", lambda: tmp_path / "file" / "programs")
    assert len(run(traced([]), Config("a"))) == 2


@pytest.fixture
def unset(monkeypatch):
    """JAX without a cache folder, as a process of `tcm` meets it."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(program_cache, "_tuned", [])
    monkeypatch.setattr(program_cache, "_set", [])
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_without_a_home_nothing_is_kept(unset, monkeypatch):
    monkeypatch.setattr(program_cache, "cache_folder", lambda: None)
    program_cache.keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir is None
    assert program_cache.kept("a program") is None
    assert len(run(traced([]), Config("a"))) == 2


@pytest.mark.parametrize("place", ["file/cache", "/proc/nothing"])
def test_a_cache_folder_that_cannot_be_made_is_no_error(unset, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
    program_cache.keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir is None
    assert len(run(traced([]), Config("a"))) == 2


def test_a_host_that_names_a_folder_later_keeps_it(unset, monkeypatch, tmp_path):
    """JAX is imported after `tune_process` where a codec does without."""
    monkeypatch.setattr(program_cache, "_tuned", [True])
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    program_cache.set_up_jax()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    assert program_cache.folder_of_programs() is None


def test_jax_keeps_none_of_these_itself(folder, monkeypatch):
    """On a CPU a program that came out of JAX's own cache cannot be kept again."""
    jax_cache = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    for path in jax_cache.glob("*kept_program*"):  # of a thread that outlived its test, while others set what is kept
        path.unlink(missing_ok=True)
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    try:
        run(traced([]), Config("a"))
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
    assert len(list(folder.iterdir())) == 1
    assert not list(jax_cache.glob("*kept_program*"))


def test_only_parameters_that_are_read_are_kept(folder):
    run(traced([]), Config("a"))
    (path,) = folder.iterdir()
    assert pickle.loads(zlib.decompress(cache.read(path)))[0] == [1]


def test_devices_that_keep_no_programs(folder, monkeypatch):
    monkeypatch.setattr(making, "serialize", lambda _: 1 / 0)
    np.testing.assert_allclose(run(traced([]), Config("a"))[0], 4 * X @ X.T + 3, rtol=1e-5, atol=1e-5)
    assert not folder.exists()


def test_without_kernels_a_program_is_another_one(folder, monkeypatch):
    run(traced([]), Config("a"))
    monkeypatch.setattr(kernels, "available", lambda: False)
    calls = []
    np.testing.assert_allclose(run(traced(calls), Config("a"))[0], 4 * X @ X.T + 3, rtol=1e-5, atol=1e-5)
    assert calls
    assert len(list(folder.iterdir())) == 2
