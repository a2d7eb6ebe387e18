"""Evaluation on a codec that is JPEG in disguise: what is measured, printed, written and refused."""

import csv
import dataclasses
import hashlib
import io
import json
import math
import types
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from tcm_jax import evaluation
from tcm_jax.errors import ConfigError, DataError, StreamError, TcmError, WeightsError
from tcm_jax.evaluation import testsets
from tcm_jax.image import read_image, write_png
from tcm_jax.metrics import psnr
from tcm_jax.model_config import reference_config

KEYS = ["name", "width", "height", "bytes", "bpp", "bpp_estimated", "psnr", "ms_ssim", "ms_ssim_db", "encode_seconds",
        "decode_seconds"]  # fmt: skip


@dataclasses.dataclass
class Encoded:
    data: bytes
    reconstruction: np.ndarray
    estimated_bits: float
    table_bits: float
    correction_bytes: int
    stream_bytes: int


class Jpeg:
    """As `tcm_jax.codec.Codec`; counts its calls."""

    def __init__(self, weights=None, coder="auto", lossless=False):
        self.calls = {"compress": 0, "decompress": 0}
        self.format = {"format": "PNG"} if lossless else {"format": "JPEG", "quality": 50}

    def compress(self, image):
        self.calls["compress"] += 1
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, **self.format)
        return buffer.getvalue()

    def decompress(self, data):
        self.calls["decompress"] += 1
        return np.array(Image.open(io.BytesIO(data)))

    def encode(self, image):
        data = Jpeg.compress(self, image)
        bits = 8 * len(data)
        return Encoded(data, Jpeg.decompress(self, data), bits - 200.0, bits - 160.0, 3, len(data) - 13)


def weights(n=64):
    return types.SimpleNamespace(
        name="test", identity="ab" * 32, metadata={"lambda": "0.0067"}, config=reference_config(n)
    )


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    rng = np.random.RandomState(0)
    for name, height, width in (("a", 200, 180), ("b", 190, 250), ("more/tiny", 20, 30)):
        soft = np.kron(rng.randint(0, 256, (-(-height // 10), -(-width // 10), 3)), np.ones((10, 10, 1)))
        write_png(pictures / f"{name}.png", soft[:height, :width].astype(np.uint8))
    return pictures


def test_every_picture_is_measured(folder):
    seen = []
    codec = Jpeg()
    report = evaluation.evaluate(codec, evaluation.open_dataset(str(folder)), lambda i, name: seen.append((i, name)))
    assert seen == [(0, "a.png"), (1, "b.png"), (2, "more/tiny.png")]
    assert [list(row) for row in [*report.images, report.mean]] == [KEYS] * 4
    first, _, tiny = report.images
    image = read_image(folder / "a.png")
    data = Jpeg().compress(image)
    assert (first["width"], first["height"], first["bytes"]) == (180, 200, len(data))
    assert first["bpp"] == pytest.approx(8 * len(data) / (180 * 200))
    assert first["bpp_estimated"] == pytest.approx((8 * len(data) - 200) / (180 * 200))
    assert first["psnr"] == psnr(image, Jpeg().decompress(data))
    assert 0.9 < first["ms_ssim"] < 1
    assert first["ms_ssim_db"] == pytest.approx(-10 * math.log10(1 - first["ms_ssim"]))
    assert tiny["ms_ssim"] is tiny["ms_ssim_db"] is None
    assert report.mean["bpp"] == pytest.approx(sum(row["bpp"] for row in report.images) / 3)
    assert report.mean["ms_ssim"] == pytest.approx(sum(row["ms_ssim"] for row in report.images[:2]) / 2)
    assert report.parts["bpp"] == report.mean["bpp"] > report.parts["bpp_streams"] > report.parts["bpp_tables"]
    assert report.peak_memory > 2**20


def test_each_new_padded_shape_is_run_once_before_it_is_timed(folder):
    codec = Jpeg()
    evaluation.evaluate(codec, evaluation.open_dataset(str(folder)))
    # Three pictures, two padded shapes (256x256 and 128x128), and encode's own.
    assert codec.calls == {"compress": 3 + 2 + 3, "decompress": 3 + 2 + 3}


def test_a_decoder_that_disagrees_is_an_error(folder):
    class Wrong(Jpeg):
        def decompress(self, data):
            return super().decompress(data) ^ 1

    with pytest.raises(StreamError, match=r"a\.png: the decoded picture is not what the encoder reconstructs"):
        evaluation.evaluate(Wrong(), evaluation.open_dataset(str(folder)))


def test_results_are_written(folder, tmp_path):
    report = evaluation.evaluate(Jpeg(), evaluation.open_dataset(str(folder)))
    evaluation.write_results(report, weights(), tmp_path / "new" / "out")
    result = json.loads((tmp_path / "new" / "out" / "results.json").read_text())
    assert [list(row) for row in [*result["images"], result["mean"]]] == [KEYS] * 4
    assert result["model"] == {"name": "test", "identity": "ab" * 32, "lambda": "0.0067"}
    assert result["images"] == report.images
    assert result["mean"] == report.mean
    assert result["published"]["name"] == "TCM-small"
    with (tmp_path / "new" / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a.png", "b.png", "more/tiny.png", "mean"]
    assert float(rows[0]["psnr"]) == report.images[0]["psnr"]
    assert rows[2]["ms_ssim"] == ""


def test_lossless_results_are_valid_json(folder, tmp_path):
    report = evaluation.evaluate(Jpeg(lossless=True), evaluation.open_dataset(str(folder)))
    assert report.mean["psnr"] == math.inf
    evaluation.write_results(report, weights(32), tmp_path)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["mean"]["psnr"] is result["mean"]["ms_ssim_db"] is result["published"] is None


def test_results_that_cannot_be_written(folder, tmp_path):
    report = evaluation.evaluate(Jpeg(), evaluation.open_dataset(str(folder)))
    (tmp_path / "file").write_text("")
    with pytest.raises(TcmError, match="cannot make the folder"):
        evaluation.write_results(report, weights(), tmp_path / "file" / "out")


def test_the_table_fits_a_terminal(folder):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    report = evaluation.evaluate(Jpeg(), evaluation.open_dataset(str(folder)))
    evaluation.show(report, weights(), console)
    lines = console.file.getvalue().splitlines()
    row = next(line for line in lines if line.startswith("a.png"))
    assert row.split()[1:3] == ["180x200", f"{report.images[0]['bytes']:,}"]
    assert next(line for line in lines if line.startswith("mean")).split()[2] == f"{report.mean['bpp']:.4f}"
    assert any("published: TCM-small on Kodak, 0.899 bpp, 37.96 dB" in line for line in lines)


def test_published_points():
    point = evaluation.published_point(reference_config(128), 0.5)
    assert point == {"name": "TCM-large", "data": "kodak", "bpp": 0.443, "psnr": 34.33}
    assert evaluation.published_point(dataclasses.replace(reference_config(128), latent_channels=160), 0.5) is None


def test_sample_photographs_are_there():
    pictures = evaluation.open_dataset("samples")
    assert testsets.short_names(pictures) == ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg"]
    assert [pictures[i].shape for i in range(4)] == [(512, 512, 3), (400, 600, 3), (300, 451, 3), (427, 640, 3)]


@pytest.fixture
def no_network(monkeypatch):
    def refuse(address, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_kodak_without_a_network_says_where_to_put_it(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"cannot download .*kodim01\.png \(no network\); put .* into .*tcm_jax/kodak"):
        evaluation.open_dataset("kodak")


def test_kodak_files_are_checked_downloaded_and_kept(tmp_path, monkeypatch, no_network):
    files = {f"kodim{i:02}.png": b"picture %d" % i for i in range(1, 25)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    digests = [hashlib.sha256(content).hexdigest() for content in files.values()]
    monkeypatch.setattr(testsets, "KODAK_SHA256", digests)
    assert [path.name for path in testsets.kodak(tmp_path)] == list(files)

    (tmp_path / "kodim07.png").write_bytes(b"another picture")
    with pytest.raises(DataError, match=r"kodim07\.png is not the original"):
        testsets.kodak(tmp_path)

    (tmp_path / "kodim07.png").unlink()
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO(files[address.split("/")[-1]]))
    assert testsets.kodak(tmp_path)[6].read_bytes() == files["kodim07.png"]

    (tmp_path / "kodim24.png").unlink()
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO(b"a login page"))
    with pytest.raises(DataError, match=r"kodim24\.png does not give the original file"):
        testsets.kodak(tmp_path)
    assert not (tmp_path / "kodim24.png").exists()


def test_data_sets_that_do_not_exist(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        evaluation.open_dataset(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="data set is empty"):
        evaluation.open_dataset("")


def test_weights_that_cannot_be_used(tmp_path):
    with pytest.raises(WeightsError, match=r"no config\.json"):
        evaluation.open_weights(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="is no configuration"):
        evaluation.open_weights(str(tmp_path))
    with pytest.raises(WeightsError):
        evaluation.open_weights(str(tmp_path / "none.safetensors"))


def test_errors_are_one_line(tmp_path, capsys):
    assert evaluation.main(["--data", str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("DataError: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_command_prints_and_writes(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "open_weights", lambda path: weights())
    monkeypatch.setattr(evaluation, "Codec", Jpeg)
    assert evaluation.main(["--data", str(folder), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "more/tiny.png" in printed
    assert "results.json" in printed
    assert (tmp_path / "out" / "results.csv").exists()
