"""Every kind of picture file that people have, and every way one can be broken."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcm_jax.errors import ImageError, TcmError
from tcm_jax.image import atomic_write, decode_image, pad_to_multiple, read_image, write_png

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


def test_opaque_alpha_is_dropped_and_transparency_refused():
    opaque = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(decoded(Image.fromarray(opaque)), RGB)
    opaque[3, 4, 3] = 254
    with pytest.raises(ImageError, match=r"picture has transparent parts \(mode RGBA\)"):
        decoded(Image.fromarray(opaque))


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "LA", "I;16"])
def test_transparency_of_every_mode_is_refused(mode):
    if mode == "I;16":
        picture, options = Image.fromarray(np.array([[5, 700]], np.uint16)), {"transparency": 700}
    elif mode == "LA":
        picture, options = Image.new("LA", (4, 4), (9, 100)), {}
    elif mode == "RGB":
        picture, options = Image.new("RGB", (4, 4), (1, 2, 3)), {"transparency": (1, 2, 3)}
    elif mode == "P":
        picture, options = Image.fromarray(RGB).quantize(16), {"transparency": 0}
    else:
        picture, options = Image.new("L", (4, 4), 3), {"transparency": 3}
    with pytest.raises(ImageError, match="transparent parts"):
        decoded(picture, **options)


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise.
    turned = decoded(Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(turned, np.rot90(RGB, -1))


def test_several_frames_are_refused():
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 90, 200)]
    with pytest.raises(ImageError, match="picture holds 3 frames"):
        decoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    photograph_with_preview = encoded(Image.fromarray(RGB), "MPO", save_all=True, append_images=[Image.fromarray(RGB)])
    assert decode_image(photograph_with_preview, "picture").shape == RGB.shape


def test_floating_point_is_refused():
    with pytest.raises(ImageError, match="floating-point"):
        decoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(ImageError, match="beyond 16 bits"):
        decoded(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF")


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
    with pytest.raises(ImageError, match="too many pixels"):
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


@pytest.mark.parametrize(("height", "width", "padded"), [(1, 1, (64, 64)), (64, 128, (64, 128)), (65, 30, (128, 64))])
def test_padding_repeats_the_edge(height, width, padded):
    image = np.random.RandomState(0).randint(0, 256, (height, width, 3), dtype=np.uint8)
    result = pad_to_multiple(image, 64)
    assert result.shape == (*padded, 3)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[:height, :width], image)
    np.testing.assert_array_equal(
        result[height - 1 :, :width], np.broadcast_to(image[-1:], (padded[0] - height + 1, width, 3))
    )
    np.testing.assert_array_equal(
        result[:, width - 1 :], np.repeat(result[:, width - 1 : width], padded[1] - width + 1, 1)
    )
