"""Configurations and the flags of train.py: what is there is valid, what is wrong is one sentence."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from configs import default, smoke
from tcm_jax.errors import ConfigError
from tcm_jax.training.check import check
from tcm_jax.training.config import model_config

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config", "configs/smoke.py:mse-7"], "ConfigError: 'mse-7' is no rate; give one of mse-1, mse-2"),
        (["--config", "configs/none.py"], "ConfigError: cannot read the file given as --config"),
        ([], "ConfigError: no configuration"),
        (["--config", "configs/smoke.py", "--config.lamda=1"], "ConfigError: the configuration has no field 'lamda'"),
        (["--config", "configs/smoke.py", "--config.steps=-1"], "ConfigError: steps is -1; it must be at least 1"),
        (["--config", "configs/smoke.py", "--num_processes=2"], "--coordinator, --num_processes and --process_id"),
    ],
)
def test_wrong_flags_are_one_sentence(flags, message):
    result = subprocess.run([sys.executable, "train.py", *flags], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


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
