"""A codec that fails on a picture costs a row of the results, and pictures that come back exactly are counted."""

import csv
import dataclasses
import json
import math
import types

import numpy as np
import pytest

from tcm_jax.errors import TcmError
from tcm_jax.evaluation import codecs, results, sweep
from tcm_jax.evaluation import command as evaluation
from tcm_jax.evaluation.measure import COLUMNS
from tcm_jax.evaluation.report import gallery
from tcm_jax.evaluation.sweep import Point
from tcm_jax.images.pictures import write_png

ORIGIN = {"command": "c", "tcm_jax": "0", "commit": "c", "device": "d", "processor": "p", "system": "s",
          "libraries": {}, "time": "now", "seeds": {}}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Two pictures with noise, and one of a single colour, which JPEG returns exactly."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        write_png(pictures / f"{name}.png", rng.integers(0, 256, (40, 50, 3)).astype(np.uint8))
    write_png(pictures / "grey.png", np.full((40, 50, 3), 128, np.uint8))
    return pictures


@dataclasses.dataclass(frozen=True)
class Broken(codecs.OtherCodec):
    """JPEG whose library gives up on the pictures of `refuses`, by their first byte."""

    refuses: frozenset = frozenset()

    def compress(self, image, quality):
        if not self.refuses or int(image.flat[0]) in self.refuses:
            raise RuntimeError("The encoder API\nis used in an incorrect way")
        return super().compress(image, quality)


@pytest.fixture
def broken(monkeypatch):
    """Puts a broken codec in the place of WebP; `broken()` refuses all pictures, `broken(image)` this one."""

    def put(*images):
        jpeg = dataclasses.asdict(codecs.OTHER_CODECS["jpeg"]) | {"name": "webp", "label": "Broken"}
        refuses = frozenset(int(image.flat[0]) for image in images)
        monkeypatch.setitem(codecs.OTHER_CODECS, "webp", Broken(**jpeg, refuses=refuses))
        sweep.coder_key.cache_clear()

    yield put
    sweep.coder_key.cache_clear()


def result_of(folder, tmp_path, *points):
    found = sweep.measure_all([str(folder)], points, tmp_path / "cache")
    return results.build(found, "jpeg", "pchip", ORIGIN)


JPEG, BROKEN = ([Point(name, quality) for quality in (20.0, 60.0)] for name in ("jpeg", "webp"))


def test_a_failure_is_a_row_and_all_else_is_measured(folder, tmp_path, broken):
    broken(sweep.dataset(str(folder))[0])
    result = result_of(folder, tmp_path, *JPEG, *BROKEN)
    good, bad = result["sets"][0]["curves"]
    assert [point["mean"]["failed"] for point in good["points"] + bad["points"]] == [0, 0, 1, 1]
    for point in bad["points"]:
        failed, *others = point["images"]
        assert list(failed) == list(COLUMNS)
        assert failed["error"] == "RuntimeError: The encoder API"
        assert {key for key, value in failed.items() if value is not None} == {"name", "width", "height", "error"}
        assert all(row["error"] is None for row in others)
        assert point["mean"]["bpp"] == pytest.approx(np.mean([row["bpp"] for row in others]))
        assert point["mean"]["pictures"] == 3
    assert not [row for row in result["sets"][0]["bd_rate"] if row["curve"] == "webp"]  # means of other pictures
    results.write(result, tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "Broken, quality 20: 1 of 3 pictures failed and are in no mean" in page
    assert "a.png: RuntimeError: The encoder API" in page
    with (tmp_path / "results.csv").open() as file:
        assert [row["error"] for row in csv.DictReader(file)].count("RuntimeError: The encoder API") == 2


def test_what_failed_is_tried_again(folder, tmp_path, broken):
    broken(sweep.dataset(str(folder))[0])
    result_of(folder, tmp_path, *BROKEN)
    broken(np.full(1, 77))  # mended: no picture begins so
    result = result_of(folder, tmp_path, *BROKEN)
    assert [point["mean"]["failed"] for point in result["sets"][0]["curves"][0]["points"]] == [0, 0]


def test_the_command_writes_all_and_says_so(folder, tmp_path, broken, capsys):
    broken()
    output = tmp_path / "out"
    flags = ["--data", str(folder), "--output", str(output), "--codecs", "webp,jpeg", "--qualities", "50"]
    points = [Point("webp", 50.0), Point("jpeg", 50.0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "operating_points", lambda *args: points)
        assert evaluation.main(flags) == 1
    printed = capsys.readouterr()
    assert printed.err == "TcmError: 3 measurements failed; the results name them, and all else is in them\n"
    assert "Broken, quality 50: 3 of 3 pictures failed" in " ".join(printed.out.split())
    found = json.loads((output / "results.json").read_text())
    means = {curve["name"]: curve["points"][0]["mean"] for curve in found["sets"][0]["curves"]}
    assert means["webp"]["bpp"] is means["webp"]["psnr_of_mean_mse"] is None
    assert means["jpeg"]["psnr"] > 10


def test_infinite_decibels_are_counted_and_leave_the_others_a_mean(folder, tmp_path):
    result = result_of(folder, tmp_path, Point("jpeg", 50.0))
    point = result["sets"][0]["curves"][0]["points"][0]
    finite = [row["psnr"] for row in point["images"] if math.isfinite(row["psnr"])]
    assert len(finite) == 2
    assert point["mean"]["lossless"] == 1
    assert point["mean"]["psnr"] == pytest.approx(np.mean(finite))
    assert point["mean"]["psnr_of_mean_mse"] > point["mean"]["psnr"]  # where all three count
    assert "JPEG 4:2:0, quality 50: 1 of 3 pictures came back exactly" in results.markdown(result)


def test_jpeg_xl_at_quality_100_is_lossless(folder):
    pytest.importorskip("pillow_jxl")
    image = sweep.dataset(str(folder))[0]
    codec = codecs.other_codec("jpegxl")
    np.testing.assert_array_equal(codec.decompress(codec.compress(image, 100)), image)
    assert not np.array_equal(codec.decompress(codec.compress(image, 99)), image)


def test_our_own_failures_are_rows_too(folder, tmp_path, monkeypatch):

    class Meter:
        def measure(self, name, image, quality, effort):
            raise TcmError("no")

    monkeypatch.setattr(sweep, "_meter", lambda *_: Meter())
    monkeypatch.setattr(sweep, "coder_key", lambda *_: "key")
    (entries,) = sweep.measure_all([str(folder)], [Point("tcm")], tmp_path / "cache").values()
    assert [entry["row"]["error"] for entry in entries] == ["TcmError: no"] * 3


def test_the_gallery_leaves_a_broken_codec_out(broken, monkeypatch):
    broken()
    image = np.zeros((40, 50, 3), np.uint8)
    encoded = types.SimpleNamespace(data=bytes(900), reconstruction=image)
    codec = types.SimpleNamespace(encode=lambda image, quality, effort: encoded)
    monkeypatch.setattr(gallery, "model_name", lambda _: "ours")
    monkeypatch.setattr(gallery, "_bits", lambda *_: None)
    shown = [codecs.OTHER_CODECS[name] for name in ("webp", "jpeg")]
    entry = gallery._entry(codec, Point("tcm"), shown, image)
    assert [one["codec"] for one in entry["others"]] == ["JPEG 4:2:0"]
