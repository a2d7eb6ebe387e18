"""Files of pictures that end early: one sentence says so, and the way is named where some of the pixels are there."""

import contextlib
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from golden_files import WEIGHTS
from PIL import GifImagePlugin, Image, ImageFile

from tcm_jax import cli
from tcm_jax.errors import ImageError
from tcm_jax.images import icons, png, repair
from tcm_jax.images.formats import suffixes
from tcm_jax.images.metadata import UnusableError
from tcm_jax.images.pictures import decode_picture

CASES = Path(__file__).parent / "cases"
RGB = photograph(24, 32)
WAY = "; tcm compress --allow-truncated reads what is there"


def encoded(file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, file_format, **options)
    return buffer.getvalue()


TRUNCATED = ("base_trunc.jpg", "prog_trunc.jpg", "no_eoi.jpg")


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_photograph_that_ends_early(name):
    data = (CASES / name).read_bytes()
    with pytest.raises(ImageError, match=r"picture is broken: .*truncated.*; tcm compress --allow-truncated reads"):
        decode_picture(data, "picture")
    picture = decode_picture(data, "picture", allow_truncated=True)
    assert [left.startswith("end (image file is truncated") for left in picture.left_out] == [True]
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    whole = decode_picture((CASES / "icc_srgb.jpg").read_bytes(), "picture").array
    assert picture.array.shape == whole.shape
    assert picture.array[:40].std() > 10


@pytest.mark.parametrize("file_format", ["BMP", "PPM", "TGA"])
def test_plain_samples_that_end_early(file_format):
    data = encoded(file_format)
    cut = data[: len(data) // 2]
    with pytest.raises(ImageError, match="allow-truncated"):
        decode_picture(cut, "picture")
    kept = decode_picture(cut, "picture", allow_truncated=True).array
    assert (kept == RGB).all(-1).sum() in range(300, 480)


@pytest.mark.parametrize("options", [{}, {"comment": b"a comment" * 40, "interlace": 0}])
def test_a_gif_that_ends_early(options):
    """What is kept is as much of the picture as there is of its bytes."""
    indexes = np.random.default_rng(0).integers(1, 16, (40, 50), dtype=np.uint8)
    image, buffer = Image.fromarray(indexes, "P"), io.BytesIO()
    image.putpalette(np.random.default_rng(1).permutation(48).astype(np.uint8).tobytes())
    image.save(buffer, "GIF", **options)
    data, whole = buffer.getvalue(), np.asarray(image.convert("RGB"))
    start = data.index(b"\x2c\0\0\0\0")
    for end in range(start + 12, len(data) - 4, 17):
        picture = decode_picture(data[:end], "picture", allow_truncated=True)
        same = (picture.colour == whole).all(-1).ravel()
        part = (end - start) / (len(data) - start)
        assert abs(same.mean() - part) < 0.15
        if "interlace" in options:  # by default rows are in another order
            assert same[: max(int((part - 0.15) * same.size), 0)].all()
        assert [left.startswith("end (") for left in picture.left_out] == [True]


@pytest.mark.parametrize("bitmap", ["png", "bmp"])
def test_an_icon_that_ends_early(bitmap):
    data = encoded("ICO", bitmap_format=bitmap)
    _, size, start = icons.entries(data)[-1]
    for part in (0.5, 0.8, 0.95):
        cut = data[: start + int(part * size)]
        with pytest.raises(ImageError, match=WAY):
            decode_picture(cut, "picture")
        assert decode_picture(cut, "picture", allow_truncated=True).left_out


PLAIN = "JPEG PNG GIF TIFF WEBP AVIF JPEG2000 BMP PPM PCX SGI ICO QOI DDS JXL"
FORMATS = {name: {} for name in PLAIN.split()} | {
    "TIFF LZW": {"compression": "tiff_lzw"},
    "WEBP lossless": {"lossless": True},
    "TGA": {"compression": "tga_rle"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_way_that_is_named_is_one(name):
    """And one that is not named is none."""
    if name == "JXL" and ".jxl" not in suffixes():
        pytest.skip("no plugin")
    data = encoded(name.split()[0], **FORMATS[name])
    whole = decode_picture(data, "picture").colour.shape
    for end in range(10, len(data), max(1, len(data) // 12)):
        try:
            assert decode_picture(data[:end], "picture").colour.shape == whole  # what is missing is not the picture
        except ImageError as error:
            message = str(error)
            assert "\n" not in message
            if message.endswith(WAY):
                found = decode_picture(data[:end], "picture", allow_truncated=True)
                assert (found.colour.shape, len(found.left_out)) == (whole, 1)
            else:
                with pytest.raises(ImageError, match=f"^{re.escape(message)}$"):
                    decode_picture(data[:end], "picture", allow_truncated=True)


@pytest.mark.parametrize("name", ["WEBP", "WEBP lossless", "AVIF", "TIFF LZW", "JPEG2000", "ICO"])
def test_what_says_how_long_it_is(name):
    data = encoded(name.split()[0], **FORMATS[name])
    assert repair.declared_size(data) <= len(data)
    for end in (20, len(data) // 4):
        with pytest.raises(
            ImageError, match=rf"^picture is broken: it ends early, after {end} of at least [\d,]+ bytes$"
        ):
            decode_picture(data[:end], "picture")


def test_no_format_is_taken_for_a_cut_one():
    for data in (b"", b"RIFF", b"II*\0", b"\0\0\1\0", b"some text, which is no picture", b"\0\0\0\0ftyp", bytes(40)):
        with pytest.raises(ImageError, match=r"is not a picture|ends early"):
            decode_picture(data, "picture")


@pytest.mark.parametrize("bitmap", ["png", "bmp"])
def test_an_icon_whose_picture_is_larger_than_it_says(bitmap, tmp_path, monkeypatch, capsys):
    """Such a file of a few hundred bytes once took all memory."""
    buffer = io.BytesIO()
    Image.new("RGBA", (200, 100)).save(buffer, "ICO", bitmap_format=bitmap, sizes=[(200, 100)])
    icon = buffer.getvalue()
    icon = icon[:6] + b"\x10\x10" + icon[8:]
    with (
        pytest.warns(UserWarning, match="not the expected size") if bitmap == "bmp" else contextlib.nullcontext(),
        pytest.raises(ImageError, match="200x100 pixels, over"),
    ):
        decode_picture(icon, "picture", max_pixels=15_000)
    (tmp_path / "a.ico").write_bytes(icon)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert cli.main(["compress", str(tmp_path / "a.ico"), "--max-pixels", "9000", "--weights", str(WEIGHTS)]) == 1
    stated = {"png": "20,000", "bmp": "40,000"}[bitmap]  # Pillow counts the rows of the mask
    assert capsys.readouterr().err.endswith(f"a.ico has {stated} pixels, over the limit of 9,000\n")


def test_a_reason_of_several_lines_is_one(monkeypatch):
    def refuse(*_):
        raise OSError("a decoder\n   in debug mode")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError, match=r"^picture is broken: a decoder in debug mode$"):
        decode_picture(b"anything", "picture")


def png_of(width: int, height: int, depth: int) -> bytes:
    """A PNG that ends after some of its samples."""
    header, samples = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0), zlib.compress(bytes(40))
    return png.SIGNATURE + png._chunk(b"IHDR", header) + png._chunk(b"IDAT", samples)


def icon_of(picture: bytes, size: int) -> bytes:
    """An ICO whose one picture ends before `size`."""
    return struct.pack("<HHH8xII", 0, 1, 1, size, 22) + picture


HUGE = {
    "png": png_of(2**32 - 1, 536_883_232, 8),
    "png that Pillow gives up before it knows the size": png_of(2**32 - 1, 536_883_232, 3),
    "gif": encoded("GIF")[:6] + struct.pack("<HH", 1, 1) + encoded("GIF")[10:-400].replace(
        struct.pack("<HHHH", 0, 0, 32, 24), struct.pack("<HHHH", 0, 0, 65_535, 65_535)),
    "ico": icon_of(png_of(2**32 - 1, 536_883_232, 8), 4000),
    "bmp": encoded("BMP")[:18] + struct.pack("<ii", 40_000, 40_000) + encoded("BMP")[26:400],
}  # fmt: skip


class Bounded:
    """In place of zlib's: it fails where that would go on for hours."""

    def __init__(self, level: int = -1):
        self.left = 1 << 30

    def compress(self, data: bytes) -> bytes:
        self.left -= len(data)
        assert self.left > 0
        return b""

    def flush(self) -> bytes:
        return b""


@pytest.mark.parametrize("name", HUGE)
def test_nothing_is_filled_up_to_a_size_that_no_picture_has(name, monkeypatch):
    """Such a file would take hours or all memory, by its header of a few bytes."""
    monkeypatch.setattr(zlib, "compressobj", Bounded)
    with pytest.raises((UnusableError, Image.DecompressionBombError), match="limit"):
        repair.completed(HUGE[name], 1 << 28)
    with pytest.raises(ImageError):
        decode_picture(HUGE[name], "picture")


@pytest.mark.parametrize("size", [(2_000_000, 7), (7, 2_000_000)])
def test_sides_that_are_too_long_are_not_filled_up(size):
    """Pillow would take minutes for seven rows of millions of pixels, or for millions of rows."""
    cut = encoded("BMP")[:18] + struct.pack("<ii", *size) + encoded("BMP")[26:400]
    with pytest.raises(UnusableError, match=r"^a side has 2,000,000 pixels$"):
        repair.completed(cut, 1 << 28)
    with pytest.raises(ImageError, match=r"^picture is broken: image file is truncated \(\d+ bytes not processed\)$"):
        decode_picture(cut, "picture")


def test_a_tga_that_begins_like_an_icon_is_no_cut_one():
    entry = bytes(8) + struct.pack("<II", 1000, 5)  # a picture that would begin within the list of them
    assert repair.declared_size(b"\0\0\1\0\1\0" + entry + bytes(60)) == 0


def test_what_gives_no_reason_is_said_to_give_none(monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError, match=r"^picture is broken: its decoder gives no reason$"):
        decode_picture(b"anything", "picture")


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP"])
def test_nothing_is_filled_up_over_the_callers_limit(file_format):
    cut = encoded(file_format)[:-60]
    assert repair.completed(cut, 32 * 24)
    with pytest.raises(UnusableError, match="32x24 pixels, over the limit of 767"):
        repair.completed(cut, 767)


def test_an_icon_is_filled_up_to_its_largest_size():
    data = icon_of(encoded("BMP")[14:], 2**32 - 7)
    assert len(repair.completed(data, 1 << 28)) < 1 << 20


@pytest.mark.parametrize("wrong", [-16, -1, 0, 3])
def test_an_icons_mask_is_where_its_header_means(wrong):
    """Pillow counts from the end by the size that the directory states."""
    header = struct.pack("<IiiHHIIIIII", 40, 8, 8, 1, 1, 0, 0, 0, 0, 0, 0)
    rows, mask = bytes([0b10100000, 0, 0, 0]) * 4, bytes([0b11000000, 0, 0, 0]) * 4  # the lowest row first
    bitmap = header + bytes([0, 0, 0, 0, 255, 255, 255, 0]) + rows + mask
    entry = struct.pack("<HHH4BHHII", 0, 1, 1, 8, 4, 2, 0, 1, 1, len(bitmap) + wrong, 22)
    picture = decode_picture(entry + bitmap + bytes(4), "picture")
    np.testing.assert_array_equal(picture.alpha, [[0, 0, *[255] * 6]] * 4)
    np.testing.assert_array_equal(picture.array[:, :4, 0], [[255, 0, 255, 0]] * 4)


def test_frames_that_cannot_be_counted_are_left_out(monkeypatch):
    """As of a PSD whose first picture is sound and whose layers are not."""

    def broken(self):
        raise ValueError("negative tile size")

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "n_frames", property(broken))
    picture = decode_picture(encoded("GIF"), "picture")
    assert picture.left_out == ("frames after the first (negative tile size)",)
    assert picture.colour.shape == RGB.shape
