"""Every kind of picture file that people have, and every way one can be broken."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tcm_jax.errors import ImageError, TcmError
from tcm_jax.images import bmp
from tcm_jax.images.picture import Picture
from tcm_jax.images.pictures import decode_image, decode_picture, encode_png, read_image, to_pil, write_png
from tcm_jax.system.files import atomic_write

RGB = np.random.RandomState(0).randint(0, 256, (12, 16, 3), dtype=np.uint8)


def encoded(picture, file_format="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def decoded(picture, file_format="PNG", **options):
    image = decode_image(encoded(picture, file_format, **options), "picture")
    assert image.dtype == np.uint8
    assert image.flags.writeable
    return image


def test_rgb_round_trip(tmp_path):
    write_png(tmp_path / "a.png", RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_grey_and_black_and_white():
    grey = RGB[..., 0]
    np.testing.assert_array_equal(decoded(Image.fromarray(grey)), np.repeat(grey[..., None], 3, -1))
    bits = decoded(Image.fromarray(grey > 127))
    np.testing.assert_array_equal(bits[..., 1], np.where(grey > 127, 255, 0))


def test_sixteen_bit_grey_is_scaled():
    grey = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 128, 255]
    assert decoded(Image.fromarray(grey))[0, :, 2].tolist() == expected
    assert decoded(Image.fromarray(grey), "TIFF")[0, :, 2].tolist() == expected
    netpbm = b"P5 6 1 65535\n" + grey.astype(">u2").tobytes()
    assert decode_image(netpbm, "picture")[0, :, 0].tolist() == expected


def test_palette_and_cmyk():
    palette = Image.fromarray(RGB).quantize(16)
    np.testing.assert_array_equal(decoded(palette), np.array(palette.convert("RGB")))
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    np.testing.assert_allclose(decoded(cmyk, "JPEG", quality=95)[0, 0].astype(int), [255, 0, 0], atol=3)


def planes(picture, file_format="PNG", **options) -> Picture:
    return decode_picture(encoded(picture, file_format, **options), "picture")


def alpha_of(picture, **options):
    return planes(picture, **options).alpha.tolist()


def test_grey_stays_one_channel():
    for picture in (Image.fromarray(RGB[..., 0]), Image.fromarray(RGB[..., 0] > 127)):
        np.testing.assert_array_equal(planes(picture).colour, np.array(picture.convert("L")))
    assert planes(Image.fromarray(np.array([[0, 129, 65535]], np.uint16))).colour.tolist() == [[0, 1, 255]]
    assert planes(Image.fromarray(RGB)).colour.shape == RGB.shape


def test_alpha_is_kept_and_shown_on_white():
    alpha = np.arange(192, dtype=np.uint8).reshape(12, 16)
    rgba = np.dstack([RGB, alpha])
    picture = planes(Image.fromarray(rgba))
    np.testing.assert_array_equal(picture.array, rgba)
    exact = RGB * (alpha[..., None] / 255) + 255 - alpha[..., None]
    np.testing.assert_allclose(decoded(Image.fromarray(rgba)), exact, atol=0.51)
    opaque = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(planes(Image.fromarray(opaque)).array, opaque)
    np.testing.assert_array_equal(decoded(Image.fromarray(opaque)), RGB)


def test_transparency_of_every_mode():
    assert alpha_of(Image.fromarray(np.array([[5, 700]], np.uint16)), transparency=700) == [[255, 0]]
    assert alpha_of(Image.new("LA", (2, 1), (9, 100))) == [[100, 100]]
    assert planes(Image.new("LA", (2, 1), (9, 100))).colour.tolist() == [[9, 9]]
    assert alpha_of(Image.new("RGB", (2, 1), (1, 2, 3)), transparency=(1, 2, 3)) == [[0, 0]]
    assert alpha_of(Image.new("L", (2, 1), 3), transparency=4) == [[255, 255]]
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    assert alpha_of(palette, transparency=bytes([255, 77])) == [[77, 77]]
    assert planes(palette, transparency=1).array.tolist() == [[[9, 8, 7, 0]] * 2]


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # To be turned by 90 degrees clockwise.
    turned = planes(Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(turned.colour, np.rot90(RGB, -1))
    kept = Image.Exif()
    kept.load(turned.exif)
    assert dict(kept) == {0x010F: "a camera"}


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_and_exif_are_kept(file_format):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = planes(Image.fromarray(RGB), file_format, exif=exif, icc_profile=profile)
    assert picture.icc == profile
    if file_format != "TIFF":  # whose tags are its own, and no block to carry
        assert picture.exif == exif.tobytes().removeprefix(b"Exif\0\0")
        again = decode_picture(encode_png(picture), "copy")
        assert (again.icc, again.exif) == (picture.icc, picture.exif)
        assert to_pil(picture).getexif()[0x010F] == "a camera"


def test_profiles_of_other_samples_are_used_or_dropped():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert planes(Image.fromarray(RGB[..., 0]), icc_profile=profile).icc == b""
    lab = ImageCms.profileToProfile(Image.fromarray(RGB), ImageCms.createProfile("sRGB"),
                                    ImageCms.createProfile("LAB"), outputMode="LAB")  # fmt: skip
    assert np.abs(planes(lab, "TIFF").colour.astype(int) - RGB).mean() < 4


def test_arrays_of_every_form():
    for array in (RGB[..., 0], RGB[..., :2], RGB, np.dstack([RGB, RGB[..., 0]])):
        np.testing.assert_array_equal(Picture.of(array).array, array)
    np.testing.assert_array_equal(Picture.of(RGB[..., :1]).array, RGB[..., 0])


def bitmap(pixels, masks, header=108, compression=3):
    """A BMP file from the bottom up with masks for red, green, blue and alpha."""
    height, width = pixels.shape
    rows = np.pad(pixels, ((0, 0), (0, width * pixels.itemsize % 4 // pixels.itemsize)))[::-1].tobytes()
    fields = struct.pack(
        "<IiiHHIIiiII", header, width, height, 1, 8 * pixels.itemsize, compression, len(rows), 0, 0, 0, 0
    )
    fields = (fields + struct.pack("<4I", *masks)).ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(fields) + len(rows), 0, 0, 14 + len(fields)) + fields + rows


def test_alpha_of_bitmaps():
    masks, pixels = (0x7C00, 0x3E0, 0x1F, 0x8000), np.array([[0xFC00, 0x7C00, 0x001F], [0, 0x8000, 0]], np.uint16)
    picture = decode_picture(bitmap(pixels, masks), "picture")
    assert picture.colour[0].tolist() == [[255, 0, 0], [255, 0, 0], [0, 0, 255]]
    assert picture.alpha.tolist() == [[255, 0, 0], [0, 255, 0]]
    assert decode_picture(bitmap(pixels & 0x7FFF, masks), "picture").alpha is None  # nothing would be seen
    assert decode_picture(bitmap(pixels, (*masks[:3], 0)), "picture").alpha is None
    assert decode_picture(bitmap(pixels, masks, header=40), "picture").alpha is None  # what follows is no mask
    four = bmp.alpha(bitmap(np.array([[0x0000, 0x3000, 0xF000]], np.uint16), (0xF00, 0xF0, 0xF, 0xF000)))
    assert four.tolist() == [[0, 51, 255]]
    cut = bitmap(pixels, masks)
    assert all(bmp.alpha(cut[:end]) is None for end in range(len(cut)))


def test_the_limit_on_pixels():
    data = encoded(Image.fromarray(RGB))
    assert decode_picture(data, "picture", max_pixels=192).colour.shape == RGB.shape
    with pytest.raises(ImageError, match="16x12 pixels, over the limit of 191"):
        decode_picture(data, "picture", max_pixels=191)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read(format_):
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (70, 90, 200)]
    data = encoded(frames[0], format_, save_all=True, append_images=frames[1:])
    picture = decode_picture(data, "picture")
    assert np.array_equal(picture.colour, np.full(picture.colour.shape, 70))
    assert picture.left_out == ("frames after the first (2)",)


def test_the_preview_of_a_photograph_is_no_frame():
    photograph_with_preview = encoded(Image.fromarray(RGB), "MPO", save_all=True, append_images=[Image.fromarray(RGB)])
    picture = decode_picture(photograph_with_preview, "picture")
    assert picture.colour.shape == RGB.shape and not picture.left_out


@pytest.mark.parametrize(
    ("samples", "expected", "told"),
    [
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255], "0 to 1"),
        (np.array([0, 127.6, 255], np.float32), [0, 128, 255], "0 to 255"),
        (np.array([-1, 0, 3], np.float32), [0, 64, 255], "-1 to 3"),
        (np.array([np.nan, 0.2, np.inf], np.float32), [0, 51, 0], "0 to 1"),
        (np.array([7, 7, 7000], np.float32), [0, 0, 255], "7 to 7000"),
        (np.array([300, 300, 300], np.float32), [0, 0, 0], "300 to 300"),
        (np.array([70000, 35000, 0], np.int32), [255, 128, 0], "0 to 70000"),
        (np.array([65535, 32768, 0], np.int32), [255, 128, 0], None),
    ],
)
def test_ranges_other_than_of_integers_are_told(samples, expected, told):
    picture = decode_picture(encoded(Image.fromarray(samples[None]), "TIFF"), "picture")
    assert picture.colour[0].tolist() == expected
    assert picture.left_out == ((f"range of samples ({told} became 0 to 255)",) if told else ())


def test_broken_files_are_refused():
    good = encoded(Image.fromarray(RGB))
    jpeg = encoded(Image.fromarray(RGB), "JPEG")
    for data in (good[:-30], good[: len(good) // 2], jpeg[: len(jpeg) // 2]):
        with pytest.raises(ImageError, match="picture is broken"):
            decode_image(data, "picture")
    for data in (b"", b"just text", good[:4]):
        with pytest.raises(ImageError, match="not a picture"):
            decode_image(data, "picture")


def test_random_damage_is_an_image_error_or_a_picture():
    rng = np.random.RandomState(1)
    for file_format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP"):
        good = encoded(Image.fromarray(RGB), file_format)
        for _ in range(40):
            data = bytearray(good)
            for at in rng.randint(0, len(data), 3):
                data[at] = rng.randint(256)
            try:
                assert decode_image(bytes(data), "picture").shape[2] == 3
            except ImageError:
                pass
            except Warning:  # Pillow warns of odd metadata; the test run turns that into an error.
                pass


def test_decompression_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    with pytest.raises(ImageError, match=f"has {RGB[..., 0].size:,} pixels, over the limit of 128"):
        decoded(Image.fromarray(RGB))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"cannot read .*none\.png: No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot read"):
        read_image(tmp_path)


def test_atomic_write_replaces_whole_files(tmp_path):
    target = tmp_path / "out"
    atomic_write(target, b"first")
    atomic_write(target, b"second")
    assert target.read_bytes() == b"second"
    link = tmp_path / "link"
    link.symlink_to(target)
    atomic_write(link, b"third")
    assert link.is_symlink()
    assert target.read_bytes() == b"third"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


def test_atomic_write_leaves_devices_alone():
    atomic_write("/dev/null", b"gone")
    assert not Path("/dev/null").is_file()


def test_atomic_write_says_what_is_wrong(tmp_path, monkeypatch):
    with pytest.raises(TcmError, match=r"cannot write .*: no such folder"):
        atomic_write(tmp_path / "none" / "out", b"")
    with pytest.raises(TcmError, match=r"cannot write .*: Is a directory"):
        atomic_write(tmp_path, b"")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TcmError, match=r"cannot write .*: No space left on device"):
        atomic_write(tmp_path / "out", b"data")
    assert not list(tmp_path.iterdir())
