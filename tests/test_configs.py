"""Configurations and the flags of train.py: what is there is valid, what is wrong is one sentence."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import default, smoke
from tcm_jax.errors import ConfigError
from tcm_jax.training.check import check
from tcm_jax.training.config import model_config

ROOT = Path(__file__).parent.parent
# Runs train.py with the flags of each line in a child of its own; what it imports is imported once.
RUNS = """
import json, os, runpy, sys
import grain, jax, ml_collections, optax, orbax.checkpoint, tensorboardX
import tcm_jax.training.dry_run, tcm_jax.training.loop
for line in sys.stdin:
    flags, errors = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = ["train.py", *flags]
        runpy.run_path("train.py", run_name="__main__")
        os._exit(99)  # it exits itself
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function from flags of train.py to (exit status, what it wrote to standard error)."""
    errors = tmp_path_factory.mktemp("errors")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", RUNS], cwd=ROOT, text=True, bufsize=1, **pipes) as process:

        def run(flags):
            path = errors / str(len(list(errors.iterdir())))
            process.stdin.write(json.dumps([flags, str(path)]) + "\n")
            return int(process.stdout.readline()), path.read_text()

        yield run


GONE = ["--config", "configs/smoke.py", "--config.data.source=folder:gone"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config", "configs/smoke.py:mse-7"], "ConfigError: 'mse-7' is no rate; give one of mse-1, mse-2"),
        (["--config", "configs/none.py"], "ConfigError: cannot read the file given as --config"),
        ([], "ConfigError: no configuration"),
        (["--config", "configs/smoke.py", "--config.lamda=1"], "ConfigError: the configuration has no field 'lamda'"),
        (["--config", "configs/smoke.py", "--config.steps=-1"], "ConfigError: steps is -1; it must be at least 1"),
        (["--config", "configs/smoke.py", "--num_processes=2"], "--coordinator, --num_processes and --process_id"),
        ([*GONE, "--step=best"], "ConfigError: --step is for --export FILE, which is not given"),
        ([*GONE, "--fit_tables=3"], "ConfigError: --fit_tables is for --export FILE, which is not given"),
        ([*GONE, "--dtype=int8", "--dry_run"], "ConfigError: --dtype is for --export FILE, which is not given"),
        ([*GONE, "--export=a", "--dry_run"], "ConfigError: give one of --dry_run and --export, not both"),
        ([*GONE, "--export="], "ConfigError: the name of a file is empty; a variable of the shell may be unset"),
        ([*GONE, "--export=a.png"], "ConfigError: this writes .safetensors files; give a.png the ending .safetensors"),
        ([*GONE, "--fit_tables=-1", "--export=a"], "ConfigError: flag --fit_tables=-1: -1 is not a non-neg"),
        ([*GONE, "--config.steps=abc"], "ConfigError: flag --config.steps=abc: invalid literal for int()"),
        ([*GONE, "--wokdir=a"], "ConfigError: Unknown command line flag 'wokdir'. Did you mean: workdir ?"),
        ([*GONE, "--workdir="], "ConfigError: the name of a file is empty; a variable of the shell may be unset"),
    ],
)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each is a process made by fork")
def test_wrong_flags_are_one_sentence(flags, message, run):
    status, errors = run(flags)
    assert status == 1
    assert message in errors
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1


def test_rates_by_name():
    config = default.get_config("ms_ssim-2")
    assert (config.distortion, config.lam) == ("ms_ssim", 5)
    assert default.get_config().lam == 0.0067
    with pytest.raises(ConfigError, match="'mse' is no rate"):
        default.get_config("mse")


def test_every_configuration_is_valid():
    from configs import tcm_large, tcm_medium, tcm_small, tcm_tiny, tcm_tiny_psnr, tcm_tiny_visual

    configs = [module.get_config("mse-4") for module in (tcm_small, tcm_medium, tcm_large, smoke)]
    assert [config.lam for config in configs] == [0.013] * 4
    with pytest.raises(ConfigError, match="'mse-4' is neither all nor entropy"):
        tcm_tiny.get_config("mse-4")
    tiny = [
        tcm_tiny.get_config(),
        tcm_tiny.get_config("entropy"),
        tcm_tiny_psnr.get_config(),
        tcm_tiny_visual.get_config(),
    ]
    for config in (*configs, *tiny):
        config.data.source = "folder:x"
        check(config)
        assert dataclasses.asdict(model_config(config)) == {
            key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in config.model.items()
        }
