"""What a process imports before it works: counted, as seconds depend on the machine."""

import json
import os
import subprocess
import sys

import pytest
from conftest import photograph
from golden_files import WEIGHTS

from tcm_jax.images.pictures import write_png

HEAVY = {"jax", "numpy", "PIL", "flax", "numba", "scipy", "safetensors"}
NOT_TO_DECODE = {
    "jax", "jaxlib", "numba", "flax", "optax", "orbax", "grain", "scipy.linalg", "skimage", "matplotlib", "rich",
    "tensorboardX", "tensorflow_datasets", "ml_collections", "msgpack",
    "tcm_jax.model.tcm", "tcm_jax.model.layers", "tcm_jax.evaluation", "tcm_jax.weights.pytorch",
}  # fmt: skip
HELP_BUDGET = 110  # 94 with Python 3.11
DECODE_BUDGET = 460  # 421 with Python 3.11

HELP = """
from tcm_jax.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
"""
READY_TO_DECODE = """
from tcm_jax.cli.parser import make_parser
from tcm_jax.cli.stages import Stages
from tcm_jax.cli.one_file import open_codecs
open_codecs(make_parser([]).parse_args(["decompress", "picture.tcm"]), Stages())
"""
WARM = """
from tcm_jax.cli import main
flags = ["--weights", "{weights}", "--overwrite", "-o"]
assert main(["compress", "{folder}/a.png", *flags, "{folder}/a.tcm"]) == 0
assert main(["decompress", "{folder}/a.tcm", *flags, "{folder}/b.png"]) == 0
"""


def modules_after(code: str, **environment: str) -> set[str]:
    code += "\nimport json, sys; print(json.dumps([name for name in sys.modules if sys.modules[name]]))"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_help_imports_next_to_nothing():
    modules = modules_after(HELP)
    assert modules & HEAVY == set()
    assert len(modules) < HELP_BUDGET, sorted(modules)


def test_a_decoder_imports_what_it_needs():
    modules = modules_after(READY_TO_DECODE, JAX_PLATFORMS="cpu")
    assert "tcm_jax.entropy.range_coder" in modules  # so that nothing heavy comes later
    assert modules & NOT_TO_DECODE == set()
    assert len(modules) < DECODE_BUDGET, sorted(modules)


@pytest.mark.slow
def test_warm_commands_do_without_jax_and_numba(tmp_path):
    """From the first import to the written file; the first process has kept what they made."""
    write_png(tmp_path / "a.png", photograph(40, 60))
    code = WARM.format(folder=tmp_path, weights=WEIGHTS)
    modules_after(code)
    modules = modules_after(code, JAX_PLATFORMS="cpu")
    assert "tcm_jax.system.object_code" in modules
    assert not {name for name in modules if name.partition(".")[0] in ("jax", "jaxlib", "flax", "numba")}
