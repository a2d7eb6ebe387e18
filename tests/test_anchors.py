"""Other codecs, published points, and the BD-rates between them."""

from pathlib import Path

import numpy as np
import pytest
from conftest import photograph

from tcm_jax.errors import ConfigError
from tcm_jax.evaluation import anchors, bdrate
from tcm_jax.evaluation.codecs import OTHER_CODECS, file_of_size, other_codec
from tcm_jax.images.psnr import psnr
from tcm_jax.model.config import ModelConfig, reference_config

KODAK = Path(__file__).parent.parent.parent / "shared" / "data" / "kodak"


def available(name):
    if name == "jpegxl":
        pytest.importorskip("pillow_jxl")
    return other_codec(name)


def curve(name, dataset="kodak"):
    found = anchors.published(dataset)[name]
    return found.bpp, found.psnr


@pytest.mark.parametrize(("test", "method", "percent"), [
    ("tcm-large", "pchip", -11.73), ("tcm-large", "akima", -11.76), ("tcm-large", "cubic", -12.09),
    ("tcm-medium", "pchip", -9.11), ("tcm-small", "pchip", -6.69),
])  # fmt: skip
def test_bd_rate_of_tcm_against_vtm_on_kodak(test, method, percent):
    delta = bdrate.bd_rate(curve("vtm"), curve(test), method)
    assert delta.percent == pytest.approx(percent, abs=0.005)
    assert (delta.anchor_points, delta.test_points, delta.interpolation) == (8, 6, method)
    assert (delta.low, delta.high) == (min(curve(test)[1]), max(curve(test)[1]))
    assert delta.overlap == pytest.approx(0.39, abs=0.01)


def test_bd_rate_of_the_example_that_implementations_share():
    """Sample 1 of Anserw/Bjontegaard_metric and its many copies; VCEG-M33's cubic fit, integrated numerically here."""
    anchor = [686.76, 309.58, 157.11, 85.95], [40.28, 37.18, 34.24, 31.42]
    test = [893.34, 407.8, 204.93, 112.75], [40.39, 37.21, 34.17, 31.24]
    fits = [np.polyfit(quality, np.log(rate), 3) for rate, quality in (anchor, test)]
    between = np.linspace(31.42, 40.28, 10001)
    expected = 100 * (np.exp(np.mean(np.polyval(fits[1], between) - np.polyval(fits[0], between))) - 1)
    assert bdrate.bd_rate(anchor, test, "cubic").percent == pytest.approx(expected, abs=0.01)
    assert expected == pytest.approx(31.40, abs=0.01)


def test_bd_rate_knows_its_sign_and_its_size():
    rates, qualities = curve("vtm")
    half = [rate / 2 for rate in rates]
    for method in bdrate.INTERPOLATIONS:
        assert bdrate.bd_rate((rates, qualities), (half, qualities), method).percent == pytest.approx(-50, abs=0.1)
    # Order does not matter, and a point that is worse than a cheaper one does not count.
    shuffled = [half[3], *half[:3], *half[4:], 0.6], [qualities[3], *qualities[:3], *qualities[4:], 20.0]
    delta = bdrate.bd_rate((rates, qualities), shuffled)
    assert delta.percent == pytest.approx(-50, abs=0.1)
    assert delta.test_points == 8


def test_curves_without_a_bd_rate():
    vtm = curve("vtm")
    assert bdrate.bd_rate(vtm, ([0.1, 0.2], [10, 20])) is None
    assert bdrate.bd_rate(vtm, ([0.1], [30])) is None
    assert bdrate.bd_rate(vtm, ([0.1, 0.2, 0.4], [30, 32, 34]), "cubic") is None
    with pytest.raises(ConfigError, match="'linear' is none of pchip, akima, cubic"):
        bdrate.bd_rate(vtm, vtm, "linear")


def test_the_rate_at_a_quality():
    rates, qualities = curve("vtm")
    assert bdrate.rate_at((rates, qualities), qualities[2]) == pytest.approx(rates[2])
    between = bdrate.rate_at((rates, qualities), (qualities[2] + qualities[3]) / 2)
    assert between == pytest.approx(np.sqrt(rates[2] * rates[3]), rel=0.03)
    assert bdrate.rate_at((rates, qualities), 60) is None


def test_published_points_are_shipped():
    kodak = anchors.published("kodak")
    assert {"vtm", "hm", "av1", "jpeg", "jpeg2000", "webp", "tcm-small", "tcm-medium", "tcm-large"} < kodak.keys()
    assert all(c.source and len(c.bpp) == len(c.psnr) for c in kodak.values())
    assert kodak["vtm"].ms_ssim_db[0] == pytest.approx(8.56, abs=0.01)
    assert kodak["tcm-large"].ms_ssim_db is None
    assert anchors.published("clic2020-professional").keys() == kodak.keys()
    assert anchors.published("tecnick").keys() == {"tcm-small", "tcm-medium", "tcm-large"}
    assert anchors.published("gb82") == {}
    assert anchors.anchors_of("kodak", 24) == kodak
    assert anchors.anchors_of("kodak", 23) == {}


def test_the_published_point_of_a_reference_network():
    point = anchors.nearest_point(reference_config(128), 0.5)
    assert point == {"name": "TCM large", "data": "kodak", "bpp": 0.443, "psnr": 34.33}
    assert anchors.nearest_point(ModelConfig(latent_channels=160), 0.5) is None


@pytest.mark.parametrize("name", OTHER_CODECS)
def test_other_codecs_give_real_files_that_get_better_with_quality(name):
    codec, image = available(name), photograph(96, 120)
    files = [codec.compress(image, quality) for quality in (40, 60, 80)]
    assert [len(file) for file in files] == sorted({len(file) for file in files})
    values = [psnr(image, codec.decompress(file)) for file in files]
    assert values == sorted(values)
    assert list(codec.ladder) == sorted(set(codec.ladder))
    assert len(codec.ladder) == 6
    assert codec.compress(image, 40) == codec.compress(image, 40)
    assert any(character.isdigit() for character in codec.library)


def test_the_chroma_setting_is_what_it_says():
    from PIL import Image, JpegImagePlugin

    def sampling(name):
        import io

        with Image.open(io.BytesIO(available(name).compress(photograph(64, 64), 50))) as picture:
            return JpegImagePlugin.get_sampling(picture)

    assert (sampling("jpeg444"), sampling("jpeg")) == (0, 2)
    red = np.zeros((64, 64, 3), np.uint8)
    red[::2, ::2] = (255, 0, 0)
    for full, half in (("jpeg444", "jpeg"), ("avif444", "avif")):
        values = [psnr(red, c.decompress(c.compress(red, 95))) for c in (available(full), available(half))]
        assert values[0] > values[1] + 3


def test_a_file_of_a_size():
    codec, image = OTHER_CODECS["jpeg"], photograph(96, 120)
    for size in (1, 2000, 3000):
        quality, file = file_of_size(codec, image, size)
        assert file == codec.compress(image, quality)
        assert len(file) >= size
        assert quality == 1 or len(codec.compress(image, quality - 1)) < size
    assert file_of_size(codec, image, 10**7)[0] == 100


@pytest.mark.slow
@pytest.mark.skipif(not KODAK.exists(), reason="shared/data is not here")
@pytest.mark.parametrize(("name", "options"), [("jpeg", {"subsampling": "4:2:0"}), ("webp", {"method": 4})])
def test_plain_jpeg_and_webp_agree_with_the_published_points(name, options):
    """Ours are smaller: optimized Huffman tables, WebP's method 6. With the plain settings the same code agrees."""
    import dataclasses

    from tcm_jax.evaluation.measure import measure_other
    from tcm_jax.images.pictures import read_image

    plain = dataclasses.replace(OTHER_CODECS[name], options=lambda quality: {"quality": quality, **options})
    pictures = [read_image(path) for path in sorted(KODAK.glob("*.png"))]
    for quality in (20, 50, 80):
        rows = [measure_other(plain, "", picture, quality) for picture in pictures]
        bpp, value = (np.mean([row[key] for row in rows]) for key in ("bpp", "psnr"))
        assert bpp == pytest.approx(bdrate.rate_at(curve(name), value), rel=0.03)
