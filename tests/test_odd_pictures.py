"""Pictures with unusable metadata or without their end, through `tcm` and the library."""

import json
import shutil
import struct
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import photograph
from golden_files import WEIGHTS
from PIL import Image, ImageFile

import tcm_jax
from tcm_jax import cli
from tcm_jax.errors import ImageError, TcmWarning
from tcm_jax.images.picture import Picture
from tcm_jax.images.pictures import decode_picture, read_picture

CASES = Path(__file__).parent / "cases"
GARBAGE = "is compressed without its EXIF (it has no TIFF header)"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tcm(capsys, *argv: str):
    status = cli.main([*argv, "--weights", str(WEIGHTS)])
    return status, *capsys.readouterr()


def test_one_warning_a_file_on_stderr_and_in_json(here, capsys):
    for i in range(4):
        shutil.copy(CASES / "exif_garbage.jpg", f"{i}.jpg")
    shutil.copy(CASES / "icc_srgb.jpg", "sound.jpg")
    expected = [f"TcmWarning: {i}.jpg {GARBAGE}" for i in range(4)]
    status, out, err = tcm(capsys, "compress", *(f"{i}.jpg" for i in range(4)), "sound.jpg", "-o", "out", "--json")
    records = {record["input"]: record for record in map(json.loads, out.splitlines())}
    assert (status, sorted(err.splitlines())) == (0, expected)
    assert [records[f"{i}.jpg"]["warning"] for i in range(4)] == [f"{i}.jpg {GARBAGE}" for i in range(4)]
    assert "warning" not in records["sound.jpg"]
    status, _, err = tcm(capsys, "compress", "0.jpg")
    assert (status, err) == (0, f"{expected[0]}\n")


def test_compressed_decompressed_and_compressed_again(here, capsys):
    """A .tcm file of today may hold a profile, and one of earlier days EXIF, that no PNG can."""
    icc = (1 << 21).to_bytes(4, "big") + read_picture(CASES / "icc_srgb.jpg").icc[4:]
    picture = Picture(photograph(20, 30), icc=icc.ljust(1 << 21, b"\0"), exif=b"not a tiff header")
    Path("a.tcm").write_bytes(tcm_jax.compress(picture, weights=WEIGHTS))
    status, _, err = tcm(capsys, "decompress", "a.tcm")
    assert (status, err) == (0, "TcmWarning: the picture of a.tcm is written without its ICC profile (it has 2,097,152 "
                             "bytes; Pillow reads no PNG with more than 1,048,576) and its EXIF (it has no TIFF "
                             "header)\n")  # fmt: skip
    with Image.open("a.png") as image:
        image.load()
    assert tcm(capsys, "compress", "a.png", "--overwrite")[::2] == (0, "")


def test_allow_truncated(here, capsys):
    status, out, err = tcm(capsys, "compress", str(CASES / "base_trunc.jpg"), "-o", "a.tcm")
    assert (status, out) == (1, "")
    assert err.endswith("is truncated (5 bytes not processed); tcm compress --allow-truncated reads what is there\n")
    status, _, err = tcm(capsys, "compress", str(CASES / "base_trunc.jpg"), "-o", "a.tcm", "--allow-truncated")
    assert status == 0
    assert "base_trunc.jpg is compressed without its end (image file is truncated" in err
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert tcm_jax.decompress(Path("a.tcm").read_bytes(), weights=WEIGHTS).shape == (96, 128, 3)


class OfAnotherLibrary:
    """What has `__array__` and nothing else."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        if self._array is None:
            raise TypeError("it is on another device")
        return np.asarray(self._array, dtype)


def test_arrays_of_every_library():
    image = photograph(20, 30)
    data = tcm_jax.compress(image, weights=WEIGHTS)
    for other in (jnp.asarray(image), OfAnotherLibrary(image), view_of(image)):
        assert tcm_jax.compress(other, weights=WEIGHTS) == data
    with pytest.raises(ImageError, match=r"uint8 arrays, not float32; scale other samples"):
        tcm_jax.compress(jnp.asarray(image) / 255, weights=WEIGHTS)
    with pytest.raises(
        ImageError, match=r"OfAnotherLibrary cannot be made into a NumPy array: it is on another device"
    ):
        tcm_jax.compress(OfAnotherLibrary(None), weights=WEIGHTS)


def view_of(image: np.ndarray) -> np.ndarray:
    """A view that is not contiguous and cannot be written."""
    view = np.repeat(image, 2, axis=1)[:, ::2]
    view.setflags(write=False)
    return view


def test_the_library_warns_and_changes_nothing_of_pillow():
    with Image.open(CASES / "exif_garbage.jpg") as image, pytest.warns(TcmWarning, match="the picture is read without"):
        tcm_jax.compress(image, weights=WEIGHTS)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert sys.modules["PIL.PngImagePlugin"].MAX_TEXT_CHUNK == 1 << 20


@pytest.mark.parametrize(("channels", "left_out"), [(4, ()), (5, ("transparency (Pillow does not give it)",))])
def test_the_alpha_of_a_cmyk_psd_is_named(channels, left_out):
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", channels, 2, 3, 8, 4)
    data = header + bytes(12) + b"\0\0" + bytes(6 * channels)
    picture = decode_picture(data, "picture")
    assert (picture.colour.shape, picture.alpha, picture.left_out) == ((2, 3, 3), None, left_out)
