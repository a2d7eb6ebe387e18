"""The pictures that docs/models/tiny/draw.py adds to the photographs."""

import io
import runpy
import tarfile
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from conftest import photograph
from PIL import Image

from tcm_jax.images.sources import FolderSource

PROGRAM = Path(__file__).parents[1] / "docs" / "models" / "tiny" / "draw.py"


def test_the_same_pictures_each_time(tmp_path, monkeypatch):
    photos = tmp_path / "photos.tar"
    Image.fromarray(photograph(96, 64)).save(file := io.BytesIO(), "PNG")
    with tarfile.open(photos, "w") as tar:
        entry = tarfile.TarInfo("photo.png")
        entry.size = file.tell()
        tar.addfile(entry, io.BytesIO(file.getvalue()))
    draw = runpy.run_path(str(PROGRAM))
    for name, value in {"SIZE": (256, 192), "COUNTS": dict.fromkeys(draw["COUNTS"], 1)}.items():
        monkeypatch.setitem(draw["main"].__globals__, name, value)
    first, second = (tmp_path / name for name in ("first.tar", "second.tar"))
    draw["main"](str(photos), str(first))
    draw["main"](str(photos), str(second))
    assert first.read_bytes() == second.read_bytes()
    draw["main"](str(photos), str(second), first=1, sets=2)
    assert sorted(map(FolderSource(second).name, range(8)))[4].endswith("page_100.png")
    pictures = FolderSource(first)
    assert [Path(pictures.name(i)).name for i in range(4)] == [
        f"{kind}_0.png" for kind in ("dark", "lines", "page", "screen")
    ]
    assert all(pictures[i].shape == (192, 256, 3) for i in range(1, 4))
    assert pictures[0].mean() < 0.45 * photograph(96, 64).mean()
    assert all(np.ptp(pictures[i]) > 150 for i in range(1, 4))  # ink on its ground


@pytest.mark.slow
def test_sheets_are_the_same_each_time_and_no_two_alike(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (24, 24, 4), np.uint8)).save(tmp_path / f"icon{i}.png")
    photos = tmp_path / "photos.tar"
    with tarfile.open(photos, "w") as tar:
        tar.add(tmp_path / "icon0.png", "photo.png")
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    sheets = runpy.run_path(str(PROGRAM.parent / "sheets.py"))
    with tarfile.open(photos) as source:
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        material = sheets["Material"]([str(fonts), str(tmp_path)], source)
        for panel in sheets["PANELS"]:
            first, second = (np.asarray(panel(material, np.random.default_rng(5), (200, 160))) for _ in range(2))
            np.testing.assert_array_equal(first, second, panel.__name__)
            assert first.shape == (160, 200, 3)
            assert np.ptp(first) > 100, panel.__name__  # ink on its ground
    first, second = (tmp_path / name for name in ("first.tar", "second.tar"))
    for output in (first, second):
        sheets["main"](str(photos), str(output), [str(tmp_path)], 2)
    assert first.read_bytes() == second.read_bytes()
    pictures = FolderSource(first)
    assert pictures[0].shape == pictures[1].shape == (1152, 1536, 3)
    assert (pictures[0] != pictures[1]).any()
