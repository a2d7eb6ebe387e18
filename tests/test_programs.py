"""Programs kept on disk: found again without tracing, equal in what they compute, and never needed."""

import jax
import numpy as np
import pytest

from tcm_jax import programs
from tcm_jax.programs import Program

pytestmark = pytest.mark.skipif(jax.__version_info__ < (0, 6), reason="nothing is kept on JAX 0.5")


class Model:
    """Stands for a network; equal ones have equal configurations."""

    def __init__(self, config: str):
        self.config = self
        self.text = config

    def to_json(self) -> str:
        return self.text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_folder", tmp_path / "lowered")
    return tmp_path / "lowered"


def traced(calls: list):
    def function(model, params, i, x, rest):
        calls.append(i)
        return params * x @ x.T + i + sum(rest), x

    return Program(function, precise=True)


X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


def run(program, model, i=3, x=X):
    return [np.asarray(value) for value in program(model, np.float32(2), i, x, (x @ x.T, x @ x.T))]


def test_a_new_process_does_not_trace(folder):
    calls: list = []
    first = run(traced(calls), Model("a"))
    again = run(traced(calls), Model("a"))
    assert calls == [3]
    assert len(list(folder.iterdir())) == 1
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(first[0], 4 * X @ X.T + 3, rtol=1e-5, atol=1e-5)


def test_everything_that_matters_makes_a_program_of_its_own(folder):
    calls: list = []
    program = traced(calls)
    model = Model("a")
    for args in ({}, {"i": 4}, {"x": X[:4]}, {"x": X.astype(np.float16)}):
        run(program, model, **args)
    run(program, Model("b"))
    assert calls == [3, 4, 3, 3, 3]
    assert len(list(folder.iterdir())) == len(program) == 5
    run(program, model)
    assert len(program) == 5


def test_damaged_files_are_made_anew(folder):
    calls: list = []
    run(traced(calls), Model("a"))
    (path,) = folder.iterdir()
    good = path.read_bytes()
    for damaged in (b"", good[:99], bytes(99)):
        path.write_bytes(damaged)
        run(traced(calls), Model("a"))
        assert len(path.read_bytes()) > 100
    assert calls == [3] * 4


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(programs, "_folder", tmp_path / "file" / "lowered")
    assert len(run(traced([]), Model("a"))) == 2
