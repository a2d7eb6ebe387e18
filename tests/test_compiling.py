"""Slow: the training step compiled for a GPU and a TPU by JAX's plugins, in a process each: a failure aborts it."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# For four TPU v5e, which are asked for nowhere; at XLA's lowest effort, which takes half of the time.
TPU = {
    "TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_OPTIMIZATION_LEVEL": "O0",
    "JAX_MEMORY_FITTING_LEVEL": "O0",
}  # fmt: skip
INSTALLED = {
    "tpu": find_spec("libtpu") is not None,
    "cuda": find_spec("jax_plugins") is not None and find_spec("jax_plugins.xla_cuda12") is not None,
}
MEGABYTE = 2**20
# (platform, configuration, devices, changes): the most megabytes of temporaries a device, for four crops of 128 pixels.
CASES = {
    ("cuda", "smoke", 1, ()): 40,
    ("cuda", "smoke", 4, ("precision=bfloat16", "remat=True")): 40,
    ("cuda", "tcm_tiny", 1, ()): 200,
    ("tpu", "smoke", 4, ()): 150,
    ("tpu", "tcm_tiny", 1, ("precision=bfloat16",)): 400,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, (*case[:3], *case[3]))))
def test_the_training_step_compiles(case):
    platform, name, devices, changes = case
    if not INSTALLED[platform]:
        pytest.skip(f"JAX's plugin for {platform} is not installed")
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(TESTS.parent)} | TPU
    command = [sys.executable, TESTS / "compile_step.py", platform, name, str(devices), *changes]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 0 < int(result.stdout) <= CASES[case] * MEGABYTE
