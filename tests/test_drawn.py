"""The pictures that docs/models/tiny/draw.py adds to the photographs."""

import io
import runpy
import tarfile
from pathlib import Path

import numpy as np
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
    pictures = FolderSource(first)
    assert [Path(pictures.name(i)).name for i in range(4)] == [
        f"{kind}_0.png" for kind in ("dark", "lines", "page", "screen")
    ]
    assert all(pictures[i].shape == (192, 256, 3) for i in range(1, 4))
    assert pictures[0].mean() < 0.45 * photograph(96, 64).mean()
    assert all(np.ptp(pictures[i]) > 150 for i in range(1, 4))  # ink on its ground
