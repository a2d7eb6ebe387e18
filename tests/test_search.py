"""Targets of bits and of quality are met by search, or the error says what can be reached."""

import numpy as np
import pytest
from conftest import photograph
from golden_files import golden_codec

from tcm_jax.codec.container import parse
from tcm_jax.codec.effort import NO_EFFORT, Effort
from tcm_jax.codec.search import compress_to_bpp, compress_to_psnr
from tcm_jax.errors import ConfigError
from tcm_jax.images.picture import Picture
from tcm_jax.images.psnr import psnr

IMAGE = photograph(100, 120)
PICTURE = Picture.of(IMAGE)


class Ladder:
    """A codec whose files and errors follow the quality by a formula.

    An effort makes the files smaller by `gain`, a share that falls with the quality, and the errors as many fewer.
    """

    def __init__(self, codec, gain=0.1):
        self.codec, self.weights, self.gain, self.asked = codec, codec.weights, gain, []

    def compress(self, picture, quality, max_pixels, effort):
        self.asked.append(effort.level)
        gained = self.gain * (1 - quality / 200) if effort.level else 0
        return bytes(round(30 * quality * (1 - gained)))

    def encode(self, picture, quality, max_pixels, effort=NO_EFFORT):
        self.asked.append(effort.level)
        rows = np.arange(picture.colour.size).reshape(picture.colour.shape)
        wrong = rows % 100 > quality + (100 * self.gain if effort.level else 0)
        flipped = np.where(wrong, picture.colour ^ 8, picture.colour)
        return type("Encoded", (), {"data": b"x", "reconstruction": flipped})


@pytest.fixture
def ladder():
    return Ladder(golden_codec("quality"))


@pytest.mark.parametrize("bpp", [0.05, 0.1234, 1.0, 1.9])
def test_bits_are_met(ladder, bpp):
    data, quality = compress_to_bpp(ladder, PICTURE, bpp)
    reached = 8 * len(data) / (100 * 120)
    assert bpp * 0.985 <= reached <= bpp
    assert len(data) == round(30 * quality)
    assert len(ladder.asked) < 16


def test_what_is_easy_or_impossible(ladder):
    assert compress_to_bpp(ladder, PICTURE, 50)[1] == 100
    with pytest.raises(ConfigError, match=r"even quality 1 needs 0\.0200 bpp, more than the 0\.01"):
        compress_to_bpp(ladder, PICTURE, 0.01)
    assert compress_to_psnr(ladder, PICTURE, 1)[1] == 1


def test_psnr_is_met(ladder):
    _, quality = compress_to_psnr(ladder, PICTURE, 35)
    at = psnr(IMAGE, ladder.encode(PICTURE, quality, 0).reconstruction)
    assert 35 <= at < 35.2


@pytest.mark.parametrize("gain", [0.1, 0.02, -0.05])  # the last makes files larger
@pytest.mark.parametrize("bpp", [0.05, 0.1234, 1.0])
def test_bits_are_met_with_an_effort(ladder, bpp, gain):
    ladder.gain = gain
    data, quality = compress_to_bpp(ladder, PICTURE, bpp, effort=3)
    assert bpp * 0.985 <= 8 * len(data) / (100 * 120) <= bpp
    assert len(data) == len(ladder.compress(PICTURE, quality, 0, Effort(3)))
    assert ladder.asked.count(3) <= 5  # a search takes long


def test_what_is_easy_or_impossible_with_an_effort(ladder):
    assert compress_to_bpp(ladder, PICTURE, 50, effort=3)[1] == 100
    assert ladder.asked.count(3) == 1
    assert compress_to_bpp(ladder, PICTURE, 0.019, effort=3)[1] == 1  # as small only with the effort
    with pytest.raises(ConfigError, match=r"even quality 1 needs 0\.0180 bpp, more than the 0\.01"):
        compress_to_bpp(ladder, PICTURE, 0.01, effort=3)


def test_psnr_is_met_with_an_effort(ladder):
    _, quality = compress_to_psnr(ladder, PICTURE, 35, effort=3)
    assert 35 <= psnr(IMAGE, ladder.encode(PICTURE, quality, 0, Effort(3)).reconstruction) < 35.2
    assert quality < compress_to_psnr(ladder, PICTURE, 35)[1] - 5


def test_an_exact_file_is_searched_no_further(ladder, monkeypatch):
    """Without an effort it is as good with one; with one alone it is the answer."""
    monkeypatch.setattr(ladder, "gain", 1.0)
    assert compress_to_psnr(ladder, PICTURE, 35, effort=3)[1] > 1
    assert ladder.asked.count(3) == 1
    exact = Ladder(ladder.codec)
    monkeypatch.setattr(exact, "encode", lambda *_, effort: exact.asked.append(effort.level) or
                        type("Encoded", (), {"data": b"x", "reconstruction": IMAGE}))  # fmt: skip
    assert compress_to_psnr(exact, PICTURE, 35, effort=3)[1] == 1
    assert 3 not in exact.asked


def test_with_a_network():
    codec = golden_codec("quality")
    data, quality = compress_to_bpp(codec, PICTURE, 0.4)
    assert 0.37 < 8 * len(data) / (100 * 120) <= 0.4
    assert parse(data).quality == round(100 * quality)
    data, quality = compress_to_psnr(codec, PICTURE, 60)
    assert quality > 99
    np.testing.assert_array_equal(codec.decompress(data), IMAGE)
    with pytest.raises(ConfigError, match="one rate"):
        compress_to_bpp(golden_codec("rgb"), PICTURE, 1)
