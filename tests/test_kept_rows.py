"""What `tcm evaluate` keeps is measured again once a source file that decides it is edited, and not after others."""

import shutil
import types
from pathlib import Path

import numpy as np
import pytest

from tcm_jax.evaluation import complexity_table, provenance, sweep
from tcm_jax.evaluation.report import gallery
from tcm_jax.evaluation.sweep import Point
from tcm_jax.images.pictures import write_png
from tcm_jax.model.config import reference_config

PACKAGE = Path(sweep.__file__).parent.parent
CODING = ("codec/codec.py", "weights/files.py", "model/tcm.py", "model/layers/gdn.py", "entropy/tables.py",
          "ops/__init__.py", "ops/kernels/winograd.py", "system/program_cache.py")  # fmt: skip
MEASURING = ("evaluation/measure.py", "images/metrics.py", "images/pictures.py")
NEITHER = ("cli/parser.py", "training/loop.py", "evaluation/results.py", "pillow_plugin.py")


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """A function that adds a line to a file of a copy of the package, which is then the one that digests are of."""
    copy = tmp_path / "tcm_jax"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    weights = types.SimpleNamespace(identity="ab", name="test")
    monkeypatch.setattr(sweep, "loaded_weights", lambda _: weights)
    sweep.coder_key.cache_clear()

    def edited(name: str) -> None:
        with (copy / name).open("a", encoding="utf-8") as file:
            file.write("# edited\n")
        sweep.coder_key.cache_clear()

    yield edited
    sweep.coder_key.cache_clear()


def keys() -> tuple[str, str]:
    """(of our codec, of another)."""
    return sweep.coder_key("tcm", None), sweep.coder_key("jpeg", None)


def test_the_files_of_this_test_stand_for_every_folder():
    parts = {*sweep._MEASURING, *sweep._CODING}
    assert {part for part in parts for name in (*CODING, *MEASURING) if name.startswith(part)} == parts


@pytest.mark.parametrize("name", CODING)
def test_our_rows_depend_on_the_codec(name, edit):
    ours, others = keys()
    edit(name)
    assert keys()[0] != ours
    assert keys()[1] == others


@pytest.mark.parametrize("name", MEASURING)
def test_all_rows_depend_on_what_measures(name, edit):
    before = keys()
    edit(name)
    assert all(new != old for new, old in zip(keys(), before, strict=True))


def test_rows_of_other_codecs_depend_on_their_settings(edit):
    ours, others = keys()
    edit("evaluation/codecs.py")
    assert keys()[0] == ours
    assert keys()[1] != others


@pytest.mark.parametrize("name", NEITHER)
def test_what_decides_no_row_leaves_them(name, edit):
    before = keys()
    edit(name)
    assert keys() == before


@pytest.mark.parametrize("name", ["model/complexity.py", "entropy/factorized.py", "ops/kernels/swin.py"])
def test_counts_of_work_depend_on_the_network(name, edit, tmp_path, monkeypatch):
    monkeypatch.setattr(complexity_table, "_count", lambda config: {})
    for expected in (1, 2):
        for _ in range(2):
            complexity_table._counts(reference_config(64), tmp_path / "cache")
        assert len(list((tmp_path / "cache").iterdir())) == expected
        edit(name)


@pytest.mark.parametrize(
    "name",
    ["evaluation/report/gallery.py", "evaluation/analysis/latents.py", "ops/kernels/swin.py", "evaluation/codecs.py"],
)
def test_pictures_of_the_report_depend_on_all_that_makes_them(name, edit, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "_entry", lambda *_: {})
    monkeypatch.setattr(gallery, "loaded_weights", lambda _: None)
    monkeypatch.setattr(gallery, "Codec", lambda *_, **__: None)
    (tmp_path / "pictures").mkdir()
    write_png(tmp_path / "pictures" / "a.png", np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "cache").mkdir()
    for expected in (1, 2):
        for _ in range(2):
            gallery.galleries([str(tmp_path / "pictures")], Point("tcm"), ["jpeg"], tmp_path / "cache", 1)
        assert len(list((tmp_path / "cache").iterdir())) == expected
        edit(name)
