"""Evaluation on a codec that is JPEG in disguise: what is measured, cached, printed, written and refused."""

import csv
import dataclasses
import io
import json
import math
import re
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcm_jax.errors import ConfigError, DataError, StreamError, TcmError, WeightsError
from tcm_jax.evaluation import command as evaluation
from tcm_jax.evaluation import complexity_table, results, sweep
from tcm_jax.evaluation.measure import COLUMNS, TcmMeter, quality_of
from tcm_jax.evaluation.sweep import Point
from tcm_jax.images.pictures import read_image, write_png
from tcm_jax.images.psnr import psnr
from tcm_jax.model.config import reference_config
from tcm_jax.training.open_weights import open_weights

ORIGIN = {"command": "evaluate.py", "tcm_jax": "0", "commit": "c0ffee", "device": "1 x cpu", "processor": "p",
          "system": "s", "libraries": {"jax": "1"}, "time": "now", "seeds": {}}  # fmt: skip


@dataclasses.dataclass
class Encoded:
    data: bytes
    reconstruction: np.ndarray
    estimated_bits: float
    table_bits: float
    sides_bytes: int
    stream_bytes: int


class Jpeg:
    """As `tcm_jax.codec.codec.Codec`; counts its calls."""

    calls = 0

    def __init__(self, weights=None, coder="auto", lossless=False):
        self.format = {"format": "PNG"} if lossless else {"format": "JPEG"}

    def compress(self, image, quality=50):
        Jpeg.calls += 1
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, quality=round(quality), **self.format)
        return buffer.getvalue()

    def decompress(self, data):
        return np.array(Image.open(io.BytesIO(data)))

    def encode(self, image, quality=50, effort=None):
        data = Jpeg.compress(self, image, quality)
        bits = 8 * len(data)
        return Encoded(data, Jpeg.decompress(self, data), bits - 200.0, bits - 160.0, 3, len(data) - 13)


def weights(n=64, levels=0, identity="ab"):
    config = dataclasses.replace(reference_config(n), levels=levels)
    return types.SimpleNamespace(name="test", identity=identity * 32, metadata={"lambda": "0.0067"}, config=config)


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    rng = np.random.RandomState(0)
    for name, height, width in (("a", 200, 180), ("b", 190, 250), ("more/tiny", 20, 30)):
        soft = np.kron(rng.randint(0, 256, (-(-height // 10), -(-width // 10), 3)), np.ones((10, 10, 1)))
        write_png(pictures / f"{name}.png", soft[:height, :width].astype(np.uint8))
    return pictures


@pytest.fixture
def disguise(monkeypatch):
    """Makes sweeps use Jpeg; the weights are variable-rate where their path says so."""
    fresh = {"fixed": weights(), "small": weights(), "variable": weights(levels=4, identity="cd"), None: weights(),
             "other": weights(levels=4, identity="ef")}  # fmt: skip
    monkeypatch.setattr(sweep, "loaded_weights", lambda path: fresh[path])
    monkeypatch.setattr(evaluation, "loaded_weights", lambda path: fresh[path])
    monkeypatch.setattr(results, "loaded_weights", lambda path: fresh[path])
    monkeypatch.setattr("tcm_jax.evaluation.console.loaded_weights", lambda path: fresh[path])
    monkeypatch.setattr(evaluation, "embedded_for", lambda tune: "fixed")
    monkeypatch.setattr(sweep, "Codec", Jpeg)
    for cached in (sweep.coder_key, sweep.dataset, sweep._meter):
        cached.cache_clear()
    yield
    for cached in (sweep.coder_key, sweep.dataset, sweep._meter):
        cached.cache_clear()


def one_set(folder, tmp_path, *points, **options):
    found = sweep.measure_all([str(folder)], points, tmp_path / "cache", **options)
    return results.build(found, "vtm", "pchip", ORIGIN)


def test_every_picture_is_measured(folder, tmp_path, disguise):
    result = one_set(folder, tmp_path, Point("tcm"))
    (one,) = result["sets"]
    assert (one["name"], one["pictures"], one["published"]) == ("pictures", 3, [])
    point = one["curves"][0]["points"][0]
    assert point["model"] == {"name": "test", "identity": "ab" * 32, "lambda": "0.0067"}
    assert [list(row) for row in point["images"]] == [list(COLUMNS)] * 3
    first, second, tiny = point["images"]
    assert [row["name"] for row in point["images"]] == ["a.png", "b.png", "more/tiny.png"]
    image = read_image(folder / "a.png")
    data = Jpeg().compress(image)
    decoded = Jpeg().decompress(data)
    assert (first["width"], first["height"], first["bytes"]) == (180, 200, len(data))
    assert first["bpp"] == pytest.approx(8 * len(data) / (180 * 200))
    assert first["bpp_estimated"] == pytest.approx((8 * len(data) - 200) / (180 * 200))
    assert first["psnr"] == psnr(image, decoded)
    assert first["mse"] == pytest.approx(np.mean((image.astype(float) - decoded) ** 2))
    assert 0.9 < first["ms_ssim"] < 1
    assert first["ms_ssim_db"] == pytest.approx(-10 * math.log10(1 - first["ms_ssim"]))
    assert tiny["ms_ssim"] is tiny["ms_ssim_db"] is None
    assert first["ssimulacra2"] == quality_of(image, decoded)["ssimulacra2"]
    mean = point["mean"]
    assert mean["bpp"] == pytest.approx((first["bpp"] + second["bpp"] + tiny["bpp"]) / 3)
    assert mean["psnr"] == pytest.approx((first["psnr"] + second["psnr"] + tiny["psnr"]) / 3)
    assert mean["psnr_of_mean_mse"] == pytest.approx(10 * math.log10(255**2 / mean["mse"]))
    assert mean["psnr_of_mean_mse"] < mean["psnr"]
    assert mean["ms_ssim"] == pytest.approx((first["ms_ssim"] + second["ms_ssim"]) / 2)
    assert mean["ms_ssim_db_of_mean"] == pytest.approx(-10 * math.log10(1 - mean["ms_ssim"]))
    assert result["peak_memory_bytes"] > 2**20


def test_each_new_padded_shape_is_run_once_before_it_is_timed(folder):
    Jpeg.calls = 0
    meter = TcmMeter(Jpeg())
    for name in ("a", "b", "more/tiny"):
        meter.measure(name, read_image(folder / f"{name}.png"), None)
    # Three pictures, two padded shapes (256x256 and 128x128), and encode's own.
    assert Jpeg.calls == 3 + 2 + 3


def test_a_decoder_that_disagrees_is_an_error(folder):
    class Wrong(Jpeg):
        def decompress(self, data):
            return super().decompress(data) ^ 1

    with pytest.raises(StreamError, match=r"a\.png: the decoded picture is not what the encoder reconstructs"):
        TcmMeter(Wrong()).measure("a.png", read_image(folder / "a.png"), None)


def test_a_second_sweep_computes_nothing(folder, tmp_path, disguise, monkeypatch):
    points = [Point("tcm"), Point("webp", 50.0)]
    first = one_set(folder, tmp_path, *points)
    monkeypatch.setattr(sweep, "_measured", None)
    assert one_set(folder, tmp_path, *points) | {"compile_seconds": 0} == first | {"compile_seconds": 0}


def test_rows_of_another_coder_or_of_more_processes_are_measured(folder, tmp_path, disguise, monkeypatch):
    """Their seconds are others."""
    counts, run = [], sweep._run
    monkeypatch.setattr(sweep, "_run", lambda jobs, _, show: (counts.append(len(jobs)), run(jobs, 1, show))[1])
    for coder, processes in (("native", 1), ("native", 1), ("tfc", 1), ("native", 2)):
        one_set(folder, tmp_path, Point("tcm", coder=coder), processes=processes)
    assert counts == [3, 0, 3, 3]


def test_an_interrupted_sweep_goes_on(folder, tmp_path, disguise, monkeypatch):
    points, worked, work = [Point("tcm"), Point("jpeg", 30.0)], [], sweep._measured

    def interrupted(job):
        if len(worked) == 4:
            raise KeyboardInterrupt
        worked.append((job.name, job.point.codec))
        return work(job)

    monkeypatch.setattr(sweep, "_measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one_set(folder, tmp_path, *points)
    monkeypatch.setattr(sweep, "_measured", lambda job: (work(job), worked.append((job.name, job.point.codec)))[0])
    one_set(folder, tmp_path, *points)
    assert len(worked) == len(set(worked)) == 6


def test_stale_and_broken_rows_are_measured_again(folder, tmp_path, disguise, monkeypatch):
    one_set(folder, tmp_path, Point("jpeg", 30.0))
    worked, work = [], sweep._measured
    monkeypatch.setattr(sweep, "_measured", lambda job: (work(job), worked.append(job.name))[0])
    next((tmp_path / "cache").glob("*.json")).write_text("{")
    one_set(folder, tmp_path, Point("jpeg", 30.0))
    assert len(worked) == 1
    image = read_image(folder / "a.png")
    write_png(folder / "a.png", 255 - image)
    one_set(folder, tmp_path, Point("jpeg", 30.0))
    assert len(worked) == 2
    sweep.coder_key.cache_clear()
    monkeypatch.setattr(sweep, "source_digest", lambda *parts: "other sources")
    one_set(folder, tmp_path, Point("jpeg", 30.0))
    assert len(worked) == 5


def test_every_source_that_decides_a_file_makes_rows_stale():
    """What codec.py imports, and what that imports, is in the digest."""
    package = Path(sweep.__file__).parent.parent
    covered = {name.partition("/")[0].removesuffix(".py") for name in (*sweep._MEASURING, *sweep._CODING)}
    todo, seen = ["codec"], set()
    while todo:
        name = todo.pop()
        seen.add(name)
        files = [package / f"{name}.py"] if (package / f"{name}.py").exists() else (package / name).rglob("*.py")
        found = {match for file in files for match in re.findall(r"from tcm_jax[.]?(\w*) import", file.read_text())}
        found |= {
            match for file in files for match in re.findall(r"from tcm_jax\.(\w+)[.\w]* import", file.read_text())
        }
        todo += found - seen - {""}
    assert seen - {"errors"} <= covered


def test_processes_find_the_same(folder, tmp_path):
    points = [Point("jpeg", quality) for quality in (20.0, 60.0)]
    alone, together = (
        sweep.measure_all([str(folder)], points, tmp_path / str(processes), processes=processes) for processes in (1, 2)
    )
    seconds = {"encode_seconds": 0, "decode_seconds": 0}
    for key, entries in alone.items():
        assert [e["row"] | seconds for e in entries] == [e["row"] | seconds for e in together[key]]


def test_memory_is_that_of_the_device_that_computes(monkeypatch):
    """A worker's is not always the first."""
    first, second = (
        types.SimpleNamespace(memory_stats=lambda peak=peak: {"peak_bytes_in_use": peak}) for peak in (1, 2)
    )
    monkeypatch.setattr(sweep.jax, "devices", lambda: [first, second])
    monkeypatch.setattr(sweep.jax, "device_put", lambda _: types.SimpleNamespace(devices=lambda: [second]))
    assert sweep.peak_memory()[1] == 2


def test_ssimulacra2_is_always_measured(folder, tmp_path):
    worse, better = (
        one_set(folder, tmp_path, Point("jpeg", quality))["sets"][0]["curves"][0]["points"][0]
        for quality in (30.0, 90.0)
    )
    assert all(row["ssimulacra2"] < 90 for row in worse["images"])
    assert better["mean"]["ssimulacra2"] > worse["mean"]["ssimulacra2"]


def test_weights_of_one_architecture_are_points_of_one_curve(folder, tmp_path, disguise):
    points = evaluation.operating_points(["fixed", "small", "variable"], ["jpeg"], [20.0, 80.0])
    assert [(p.weights, p.quality) for p in points] == [
        ("fixed", None), ("small", None), ("variable", 20.0), ("variable", 80.0), (None, 20.0), (None, 80.0)
    ]  # fmt: skip
    curves = one_set(folder, tmp_path, *points)["sets"][0]["curves"]
    assert [len(curve["points"]) for curve in curves] == [2, 2, 2]
    assert curves[1]["points"][0]["label"] == "quality 20"
    assert curves[1]["points"][0]["mean"]["bpp"] < curves[1]["points"][1]["mean"]["bpp"]


def test_models_of_one_configuration_have_rows_of_their_own(folder, tmp_path, disguise, monkeypatch):
    monkeypatch.setattr(complexity_table, "REFERENCES", {})
    monkeypatch.setattr(complexity_table, "_counts", lambda config, folder: {"parameters": config.levels})
    result = one_set(folder, tmp_path, Point("tcm", 20.0, "variable"), Point("tcm", 20.0, "other"))
    curves = result["sets"][0]["curves"]
    for curve, name, seconds in zip(curves, ("a", "b"), (1.0, 2.0), strict=True):
        curve["name"] = name
        curve["points"][0]["mean"] |= {"encode_seconds": seconds, "decode_seconds": 3 * seconds}
    table = complexity_table.complexity_table(evaluation._measured_models(result), None)
    assert table == [
        {"name": "a", "parameters": 4, "encode_seconds": 1.0, "decode_seconds": 3.0},
        {"name": "b", "parameters": 4, "encode_seconds": 2.0, "decode_seconds": 6.0},
    ]


def test_points_that_make_no_sense(disguise):
    with pytest.raises(ConfigError, match="quality 120 is no number from 1 to 100"):
        evaluation.operating_points([None], [], [120.0])
    with pytest.raises(ConfigError, match=r"quality 20\.5 is no whole number from 1 to 100"):
        evaluation.operating_points([None], ["jpeg"], [20.5])
    with pytest.raises(ConfigError, match=r"no codec 'gif'; choose from jpeg, jpeg444"):
        evaluation.operating_points([None], ["gif"], None)


def test_results_are_written(folder, tmp_path, disguise):
    result = one_set(folder, tmp_path, Point("tcm"), Point("jpeg", 10.0), Point("jpeg", 50.0), Point("jpeg", 80.0))
    output = tmp_path / "new" / "out"
    results.write(result, output)
    assert json.loads((output / "results.json").read_text()) == json.loads(json.dumps(result))
    with (output / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert (rows[0]["data"], rows[0]["codec"], rows[0]["name"], rows[0]["commit"]) == (
        "pictures",
        "test",
        "a.png",
        "c0ffee",
    )
    assert float(rows[0]["psnr"]) == result["sets"][0]["curves"][0]["points"][0]["images"][0]["psnr"]
    assert rows[2]["ms_ssim"] == ""
    page = (output / "results.md").read_text()
    mean = result["sets"][0]["curves"][0]["points"][0]["mean"]
    assert f"| test | lambda 0.0067 | {mean['bpp']:.4f} | {mean['psnr']:.2f} |" in page
    assert "BD-rate for PSNR against JPEG 4:2:0" in page
    assert "commit c0ffee" in page


def test_lossless_results_are_valid_json(folder, tmp_path, disguise, monkeypatch):
    monkeypatch.setattr(sweep, "Codec", lambda weights, coder: Jpeg(lossless=True))
    result = one_set(folder, tmp_path, Point("tcm"))
    mean = result["sets"][0]["curves"][0]["points"][0]["mean"]
    assert mean["psnr"] == mean["psnr_of_mean_mse"] == mean["ms_ssim_db_of_mean"] == math.inf
    results.write(result, tmp_path)
    mean = json.loads((tmp_path / "results.json").read_text())["sets"][0]["curves"][0]["points"][0]["mean"]
    assert mean["psnr"] is mean["psnr_of_mean_mse"] is None


def test_results_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TcmError, match="cannot make the folder"):
        results.make_folder(tmp_path / "file" / "out")


def test_weights_that_cannot_be_used(tmp_path):
    with pytest.raises(WeightsError, match=r"no config\.json"):
        open_weights(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="is no configuration"):
        open_weights(str(tmp_path))
    with pytest.raises(WeightsError):
        open_weights(str(tmp_path / "none.safetensors"))


def test_errors_are_one_line(tmp_path, capsys):
    assert evaluation.main(["--data", str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("DataError: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    with pytest.raises(DataError):
        sweep.dataset(str(tmp_path / "none"))


@pytest.mark.parametrize(("option", "number", "least"), [("processes", 0, 1), ("report-pictures", -1, 0)])
def test_too_small_a_number_is_refused(tmp_path, capsys, option, number, least):
    assert evaluation.main([f"--{option}", str(number), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"ConfigError: --{option} is {number}; give at least {least}\n"


def test_an_anchor_that_is_no_curve_is_refused(folder, tmp_path, capsys, disguise):
    flags = ["--data", str(folder), "--output", str(tmp_path / "out"), "--qualities", "30", "--codecs", "jpeg"]
    assert evaluation.main([*flags, "--anchor", "avif"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("ConfigError: --anchor 'avif' is no curve of this run; choose from vtm, ")
    assert printed.err.endswith("tcm-large, test, or name a codec in --codecs too\n")
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    for anchor in ("jpeg", "test", "tcm-small"):
        results.check_anchor(anchor, [Point("tcm"), Point("jpeg", 30.0)])


def test_the_command_prints_and_writes(folder, tmp_path, capsys, disguise):
    output = tmp_path / "out"
    assert evaluation.main(["--data", str(folder), "--output", str(output), "--qualities", "30"]) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("a.png"))
    assert row.split()[1] == "180x200"
    assert "test has one rate (lambda 0.0067): one point" in printed
    assert "published: TCM small on Kodak" in printed
    assert "results.json" in printed
    assert (output / "results.csv").exists()
    assert evaluation.main(["--data", str(folder), "--output", str(output), "--codecs", "jpeg,webp"]) == 0
    printed = capsys.readouterr().out
    assert "BD-rate for PSNR against JPEG 4:2:0 (pchip)" in printed
    assert max(map(len, printed.splitlines()[:20])) <= 80


def test_results_of_efforts_name_the_seed(folder, tmp_path, disguise):
    for efforts, seeds in (("0", "none, nothing is drawn at random"), ("0,1", "efforts 0")):
        assert evaluation.main(["--data", str(folder), "--output", str(tmp_path / "out"), "--efforts", efforts]) == 0
        assert f"seeds: {seeds}\n" in (tmp_path / "out" / "results.md").read_text()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout")
def test_on_standard_output_the_report_is_alone(folder, tmp_path, capfd, disguise, monkeypatch):
    monkeypatch.setattr(evaluation, "_write_report", lambda args, *_: args.report)
    argv = ["--data", str(folder), "--output", str(tmp_path / "out"), "--qualities", "30", "--report", "/dev/stdout"]
    assert evaluation.main(argv) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("results.md, /dev/stdout\n")
