"""The report: what is in the file, and what a browser makes of it."""

import argparse
import base64
import io
import json
import re
import shutil
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from PIL import Image

from tcm_jax.evaluation import command as evaluation
from tcm_jax.evaluation import complexity_table, sweep
from tcm_jax.evaluation.analysis.latents import latent_maps
from tcm_jax.evaluation.report import gallery, savings, write_report
from tcm_jax.images.pictures import write_png
from tcm_jax.weights.files import save_weights

NAMES = ["<img src=x onerror=alert(1)>.png", "b.png"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_weights):
    """(folder, the page's text, the data in it) of two pictures; the paper's networks are not counted."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "data").mkdir()
    for seed, name in enumerate(NAMES):
        write_png(folder / "data" / name, photograph(100, 128, seed))
    save_weights(folder / "w.safetensors", tiny_weights)
    parser = argparse.ArgumentParser()
    evaluation.add_arguments(parser)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(complexity_table, "REFERENCES", {})
        for cached in (sweep.coder_key, sweep.loaded_weights, sweep.dataset, sweep._meter):
            cached.cache_clear()
        evaluation.run(parser.parse_args([
            "--data", str(folder / "data"), "--weights", str(folder / "w.safetensors"), "--codecs", "jpeg,jpeg2000",
            "--output", str(folder / "out"), "--report", str(folder / "report.html"), "--coder", "native",
        ]))  # fmt: skip
    page = (folder / "report.html").read_text()
    return folder, page, json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.slow
def test_the_page_needs_nothing_else(made):
    _, page, _ = made
    assert not re.search("https?:", page)
    assert "//" not in re.sub(r"data:[^\"']*", "", page.partition('id="data"')[0])
    assert re.findall(r"<(?:link|script|img|iframe)[^>]*(?:src|href)=\"(?!data:|#)", page) == []
    assert not re.search(r"@import|url\((?!data:|#)", page)
    assert page.count("<script") == 2
    assert "/*css*/" not in page


@pytest.mark.slow
def test_the_page_holds_what_was_measured(made):
    folder, _, data = made
    result = json.loads((folder / "out" / "results.json").read_text())
    (one,) = data["sets"]
    assert [curve["label"] for curve in one["curves"]] == ["drawn-0", "JPEG 4:2:0", "JPEG 2000"]
    assert one["curves"][0]["points"][0]["images"] == result["sets"][0]["curves"][0]["points"][0]["images"]
    assert one["bd_rate"] == result["sets"][0]["bd_rate"]
    assert data["provenance"]["commit"]
    (row,) = data["complexity"]
    assert row["parameters"] == sum(part["parameters"] for part in row["parts"].values())


@pytest.mark.slow
def test_pictures_of_equal_size(made, tiny_weights, tiny_codec):
    _, _, data = made
    shown = data["sets"][0]["gallery"]
    assert [picture["name"] for picture in shown] == NAMES
    image = photograph(100, 128, 0)
    encoded = tiny_codec.encode(image)
    picture = shown[0]
    assert picture["tcm"]["bytes"] == len(encoded.data)
    for other, kind in zip(picture["others"], ("jpeg", "avif"), strict=True):
        assert other["uri"].startswith(f"data:image/{kind};base64,")
        assert other["bytes"] >= len(encoded.data) or "quality 100" in other["label"]
    jpeg = base64.b64decode(picture["others"][0]["uri"].partition(",")[2])
    assert len(jpeg) == picture["others"][0]["bytes"]
    original = np.array(Image.open(io.BytesIO(base64.b64decode(picture["original"].partition(",")[2]))).convert("RGB"))
    assert np.mean((original.astype(float) - image) ** 2) < 12
    layers = {layer["name"]: layer for layer in picture["bits"]["layers"]}
    found = latent_maps(tiny_weights, image)
    assert list(layers) == ["all", "z", "slice 1", "slice 2", "slice 3"]
    assert layers["slice 2"]["total"] == pytest.approx(found.bits_y[..., 4:8].sum(), rel=1e-5)
    values = np.frombuffer(base64.b64decode(layers["slice 1"]["values"]), np.uint8)
    assert values.size == picture["bits"]["rows"] * picture["bits"]["columns"] == 7 * 8
    assert values.sum() * layers["slice 1"]["largest"] / 255 == pytest.approx(layers["slice 1"]["total"], rel=0.02)


def test_bits_that_another_codec_takes():
    def point(bpp, psnr, score):
        qualities = {"psnr": psnr, "ms_ssim_db_of_mean": None, "ssimulacra2": score}
        return {"label": "p", "mean": {"bpp": bpp, "failed": 0} | qualities}

    model = {"kind": "tcm", "label": "m", "points": [point(0.5, 30, 70)]}
    other = {"kind": "other", "label": "o", "points": [point(0.5, 28, 60), point(1, 30, 65), point(2, 32, 70)]}
    (row,) = savings({"curves": [model, other]})
    extra = {"psnr": pytest.approx(100), "ms_ssim": None, "ssimulacra2": pytest.approx(300)}
    assert row == {"point": "m, p", "codec": "o"} | extra
    other["points"].pop(0)
    other["points"].pop(0)
    assert savings({"curves": [model, other]})[0]["psnr"] is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_in_a_browser(made, tmp_path, width, scheme):
    sync_api = pytest.importorskip("playwright.sync_api")
    folder, _, data = made
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append("a picture's name was run"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert page.locator("#rows tbody tr").count() == 3
        assert page.locator("#rows tbody th").first.inner_text() == NAMES[0]

        page.locator("#slider").focus()
        before = page.locator("#left-side").evaluate("element => element.style.clipPath")
        page.keyboard.press("ArrowRight")
        assert page.locator("#left-side").evaluate("element => element.style.clipPath") != before
        page.locator("#stage").scroll_into_view_if_needed()
        box = page.locator("#stage").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
        page.mouse.up()
        assert float(page.locator("#slider").input_value()) == pytest.approx(25, abs=1)

        page.locator("#zoom button").nth(2).press("Enter")
        assert "scale(" in page.locator("#right-image").get_attribute("style")
        page.locator("#stage").press("ArrowRight")
        page.get_by_label("Where the bits go").check()
        assert page.locator("#heat-map").evaluate("map => [map.width, map.height]") == [8, 7]
        page.get_by_label("Which bits").select_option("slice 2")
        assert "slice 2" in page.locator("#heat-caption").inner_text()
        page.get_by_role("button", name="JPEG 2000").first.press("Enter")
        assert "JPEG 2000" in page.locator("#left-caption").inner_text()
        page.locator("#strip button").first.press("ArrowRight")
        assert page.locator("#strip button").nth(1).get_attribute("aria-selected") == "true"

        page.locator("#chart").focus()
        page.keyboard.press("ArrowRight")
        assert "drawn-0" in page.locator("#tip").inner_text()
        lines = page.locator("#chart polyline").count()
        page.locator("#legend button").nth(1).press("Enter")
        assert page.locator("#chart polyline").count() == lines - 1
        page.locator("#rows thead button").nth(3).press("Enter")
        assert page.locator("#rows thead th").nth(3).get_attribute("aria-sort") == "descending"
        page.locator("#theme").press("Enter")
        page.screenshot(path=tmp_path / "report.png", full_page=True)
        browser.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert data["sets"][0]["pictures"] == 2


def test_data_sets_of_one_name_keep_their_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "coder_key", lambda *_: "key")
    monkeypatch.setattr(gallery, "_codec", lambda *_: None)
    monkeypatch.setattr(gallery, "_entry", lambda codec, point, codecs, image: dict.fromkeys(gallery._SHOWN))
    specs = [str(tmp_path / parent / "photos") for parent in "ab"]
    for seed, spec in enumerate(specs):
        Path(spec).mkdir(parents=True)
        write_png(f"{spec}/{seed}.png", photograph(20, 30, seed))
    shown = gallery.galleries(specs, sweep.Point("tcm"), [], tmp_path, 1)
    sets = [{"name": "photos", "spec": spec, "pictures": 1, "curves": [], "published": [], "bd_rate": []}
            for spec in specs]  # fmt: skip
    write_report(tmp_path / "r.html", {"provenance": {}, "sets": sets}, shown, [])
    page = (tmp_path / "r.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [[picture["name"] for picture in one["gallery"]] for one in data["sets"]] == [["0.png"], ["1.png"]]


def test_with_an_effort_there_is_no_map_of_bits(monkeypatch):
    """The analysis has the symbols of no effort."""
    image = photograph(40, 50)
    encoded = types.SimpleNamespace(data=bytes(900), reconstruction=image)
    codec = types.SimpleNamespace(encode=lambda image, quality, effort: encoded)
    monkeypatch.setattr(gallery, "model_name", lambda _: "ours")
    monkeypatch.setattr(gallery, "_bits", lambda *_: "of no effort")
    found = [gallery._entry(codec, sweep.Point("tcm", effort=effort), [], image)["bits"] for effort in (0, 3)]
    assert found == ["of no effort", None]


def test_text_of_others_stays_text(tmp_path):
    """Names of pictures and models end up inside a script element and must not end it."""
    row = {"name": "</script><script>alert(1)</script>", "psnr": float("inf")}
    mean = dict.fromkeys(("failed", "bpp", "bytes", "psnr_of_mean_mse", "ms_ssim", "ms_ssim_db_of_mean", "ssimulacra2",
                          "encode_seconds", "decode_seconds")) | {"psnr": float("inf")}  # fmt: skip
    curve = {"name": "m", "label": "<!--m", "kind": "tcm", "settings": "", "points": [
        {"label": "p", "mean": mean, "images": [row]}]}  # fmt: skip
    result = {"provenance": {"command": "c"}, "sets": [
        {"name": "s", "spec": "s", "pictures": 1, "curves": [curve], "published": [], "bd_rate": []}]}  # fmt: skip
    write_report(tmp_path / "r.html", result, {}, [])
    page = (tmp_path / "r.html").read_text()
    assert page.count("</script") == 2
    assert "<!--m" not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["sets"][0]["curves"][0]["points"][0]["images"] == [row | {"psnr": None}]
    assert not re.search("https?:", page)
