"""Kernels and programs made ahead: all that pictures need, once, and by helpers that nobody waits for in vain."""

import os
import subprocess
import sys

import pytest
from conftest import photograph
from golden_files import WEIGHTS

from tcm_jax import cli
from tcm_jax.cli import ahead
from tcm_jax.codec import Codec
from tcm_jax.codec.tiled_network import PROGRAMS
from tcm_jax.ops import kernels
from tcm_jax.training.open_weights import open_weights

START_HELPERS = ahead._start_helpers  # which conftest.py takes away
WARM = """
import sys
import numpy as np
from tcm_jax.cli import main
from tcm_jax.images.pictures import write_png
random = np.random.default_rng(0)
photograph = np.cumsum(random.normal(0, 2, (150, 200, 3)), axis=0).astype(np.uint8)
for picture in (photograph, np.where(random.random((150, 150)) < 0.1, 0, 255).astype(np.uint8)):
    write_png("a.png", picture)
    for quality in ("20", "80", "100"):
        assert main(["compress", "a.png", "--quality", quality, "--overwrite"]) == 0
        assert main(["decompress", "a.tcm", "--overwrite"]) == 0
assert not {name.partition(".")[0] for name in sys.modules} & {"jax", "jaxlib", "flax", "numba"}
"""


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Commands of the helpers, which are not started."""
    found = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ahead, "only_this_cpu", lambda: True)
    monkeypatch.setattr(ahead.cores, "available", lambda: 3)
    monkeypatch.setattr(ahead, "_start_helpers", START_HELPERS)
    monkeypatch.setattr(ahead.subprocess, "Popen", lambda command, **_: found.append(command))
    return found


@pytest.mark.skipif(not kernels.available(), reason="no kernels here")
@pytest.mark.parametrize("weights", [None, str(WEIGHTS)])
def test_all_programs_are_made(weights, monkeypatch):
    for program in PROGRAMS.values():
        monkeypatch.setattr(program, "_made", {})
        monkeypatch.setattr(program, "_stepwise", {})
        monkeypatch.setattr(program, "target", program.target)
    ahead._keep_programs(weights)
    made = {name: list(program._made) for name, program in PROGRAMS.items()}
    codec = Codec(open_weights(weights))
    for quality in (20, 61, 70, 80, 95) if codec.weights.config.levels else (None,):
        codec.decompress(codec.compress(photograph(150, 200), quality))
    assert made == {name: list(program._made) for name, program in PROGRAMS.items()}
    assert made["analysis"] and made["slice_params"]


@pytest.mark.parametrize("terminal", [False, True])
def test_helpers_are_started_once(started, terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    ahead.help_once("a.safetensors")
    assert started == [[sys.executable, "-P", "-m", "tcm_jax.cli.ahead", number, "a.safetensors"] for number in "01"]
    ahead.help_once(None)
    assert len(started) == 2
    assert capsys.readouterr().err.count("compiling for this machine, once") == terminal


def test_no_helper_where_none_helps(started, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    ahead.help_once(None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(ahead.cores, "available", lambda: 1)
    ahead.help_once(None)
    monkeypatch.setattr(ahead, "only_this_cpu", lambda: False)
    ahead.help_once(None)
    assert not started


def test_a_command_starts_them(started, tmp_path, monkeypatch):
    (tmp_path / "a.tcm").write_bytes(b"no such file")
    assert cli.main(["decompress", str(tmp_path / "a.tcm")]) == 1
    assert [command[4] for command in started] == ["0", "1"]


def test_where_nothing_can_be_made_ahead(started, monkeypatch, tmp_path, capsys):
    (tmp_path / "cache").write_text("no folder")
    said = []
    for name, value in (("kept", lambda _: None), ("_has_kernels", lambda: False), ("only_this_cpu", lambda: False)):
        assert cli.main(["warm-up"]) == 1
        said.append(capsys.readouterr().err)
        monkeypatch.setattr(ahead, name, value)
    assert cli.main(["warm-up"]) == 1
    said.append(capsys.readouterr().err)
    words = ("cache", "no home folder", "kernels for this processor", "GPUs")
    assert [said_of.count("\n") for said_of in said] == [1] * 4 and not started
    assert all(word in said_of for word, said_of in zip(words, said, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(not kernels.available(), reason="no kernels here")
def test_after_warming_up_no_command_makes_anything(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    tcm = [sys.executable, "-m", "tcm_jax"]
    run = subprocess.run([*tcm, "warm-up"], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("ready in ") and str(tmp_path) in run.stdout
    subprocess.run([sys.executable, "-c", WARM], env=environment, cwd=tmp_path, check=True)
