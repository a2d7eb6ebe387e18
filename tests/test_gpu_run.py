"""The run on a GPU without a network, packed and trained here on the CPU with a test-sized network."""

import importlib
import json
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from PIL import Image

from tcm_jax.images.datasets import FolderSource
from tcm_jax.training.config import model_config
from tcm_jax.weights import files

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "docs" / "models" / "tiny" / "gpu.py"


@pytest.fixture(scope="module")
def carry(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    for i, name in enumerate(("photo.jpg", "sheet.png")):
        Image.fromarray(photograph(140, 150, i)).save(folder / name)
    (folder / "pictures").mkdir()
    with tarfile.open(folder / "pictures" / "some.tar", "w") as tar:
        for name in ("photo.jpg", "sheet.png"):
            tar.add(folder / name, name)
    subprocess.run([sys.executable, PROGRAM, "pack", folder / "pictures", folder / "carry"], check=True)
    return folder / "carry"


def test_the_pack_has_the_pictures_and_those_without_loss_stay_so(carry):
    source = FolderSource(carry / "pictures.tar")
    names = [Path(source.name(i)).name for i in range(len(source))]
    assert sorted(names) == ["some_photo.jpg", "some_sheet.webp"]
    np.testing.assert_array_equal(source[names.index("some_sheet.webp")], photograph(140, 150, 1))


@pytest.mark.parametrize("name", ["tcm_tiny_psnr", "tcm_tiny_visual"])
def test_the_run_goes_on_from_the_embedded_weights(name):
    (flag,) = runpy.run_path(str(PROGRAM))["start"](f"configs/{name}.py")
    weights = files.load_weights(flag.removeprefix("--config.init_from="))
    assert weights.name == name
    config = importlib.import_module(f"configs.{name}").get_config()
    assert weights.config == model_config(config)


@pytest.mark.slow
def test_the_run_trains_for_the_time_there_is_and_brings_back_weights(carry, tmp_path):
    """It starts from nothing here, and the time is more than enough."""
    config = ["--config", "configs/smoke.py", "--seconds", "3000", "--steps", "40"]
    flags = [
        "--config.data.batch_size=2",
        "--config.data.workers=0",
        "--config.validation.source=",
        "--config.log_every=10",
    ]
    command = [sys.executable, PROGRAM, "train", carry, tmp_path / "out", *config, *flags]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    weights = files.load_weights(tmp_path / "out" / "weights.safetensors")
    assert weights.name == "smoke"
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 40
    assert json.loads((tmp_path / "out" / "config.json").read_text())["precision"] == "bfloat16"
