"""What Pillow gets wrong of PNGs, against pictures written from the standard."""

import io
import struct
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import png_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin
from png_files import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, chunk

from tcm_jax.errors import ImageError
from tcm_jax.images import png
from tcm_jax.images.pictures import decode_picture, encode_png, from_pil

CASES = Path(__file__).parent / "cases"
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8)}
KINDS = [(colour_type, depth) for colour_type, depths in DEPTHS.items() for depth in depths]


def few_samples(rng, depth: int, shape: tuple[int, ...]) -> np.ndarray:
    """Samples of which many are equal, and many equal in their high or low bytes alone."""
    values = rng.integers(0, 1 << depth, 3)
    if depth == 16:
        values = np.concatenate([values, values ^ 1, values ^ 0x100])
    return rng.choice(values, shape)


def transparency(rng, samples: np.ndarray, depth: int, colour_type: int) -> bytes:
    """Of a colour of the picture in most cases, or of entries of a palette."""
    if colour_type == PALETTE:
        return rng.choice([0, 255, 77], int(rng.integers(1, (1 << depth) + 1))).astype(np.uint8).tobytes()
    key = samples[rng.integers(samples.shape[0]), rng.integers(samples.shape[1])]
    return struct.pack(f">{len(key)}H", *(int(sample) ^ int(rng.random() < 0.1) for sample in key))


def expected_alpha(samples: np.ndarray, depth: int, colour_type: int, stored: bytes) -> np.ndarray:
    if colour_type == PALETTE:
        return np.frombuffer(stored.ljust(256, b"\xff"), np.uint8)[samples[..., 0]]
    key = np.array(struct.unpack(f">{samples.shape[2]}H", stored)) & ((1 << depth) - 1)
    return np.where((samples == key).all(-1), 0, 255)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 2**32 - 1), st.booleans(), st.integers(1, 21), st.integers(1, 21))
def test_transparency_is_exact(kind, seed, interlaced, height, width):
    (colour_type, depth), rng = kind, np.random.default_rng(seed)
    samples = few_samples(rng, depth, (height, width, 3 if colour_type == RGB else 1))
    stored = transparency(rng, samples, depth, colour_type)
    palette = rng.integers(0, 256, (1 << depth, 3), dtype=np.uint8)
    chunks = [chunk(b"PLTE", palette.tobytes())] * (colour_type == PALETTE) + [chunk(b"tRNS", stored)]
    data = png_files.write(samples, depth, colour_type, chunks, interlaced, filters=seed)
    picture = decode_picture(data, "picture")
    np.testing.assert_array_equal(picture.alpha, expected_alpha(samples, depth, colour_type, stored))
    colours = {GREY: samples[..., 0], RGB: samples, PALETTE: palette[samples[..., 0] % len(palette)]}[colour_type]
    if depth < 16:
        scale = 255 // ((1 << depth) - 1) if colour_type == GREY else 1
        np.testing.assert_array_equal(picture.colour, colours * scale)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(from_pil(image).array, picture.array)


@pytest.mark.parametrize("name", ["g1", "g4", "g16", "rgb16"])
def test_pictures_that_pillow_has_loaded_have_the_transparency_of_their_files(name, tmp_path):
    data = (CASES / f"{name}_trns.png").read_bytes()
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    expected = decode_picture(data, "picture")
    assert sorted(np.unique(expected.alpha)) == [0, 255]
    with Image.open(path) as image:
        image.load()
        np.testing.assert_array_equal(from_pil(image).array, expected.array)
        # Another picture that has got the name is not looked at.
        path.write_bytes(png_files.write(SAMPLES, 16, RGB, [chunk(b"tRNS", b"\0\1\0\2\0\3")]))
        from_pil(image)
        path.unlink()
        from_pil(image)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_bits_above_the_depth_of_a_key_are_not_looked_at(depth):
    samples = np.array([[[0], [1]]])
    data = png_files.write(samples, depth, GREY, [chunk(b"tRNS", struct.pack(">H", 1 | 1 << depth))])
    assert decode_picture(data, "picture").alpha.tolist() == [[255, 0]]


def test_colours_that_differ_from_a_key_in_one_byte_are_opaque():
    """In the low byte, which Pillow does not give, or the high one."""
    samples = np.array([[[258, 515, 1029], [259, 515, 1029], [258, 515, 1028], [514, 515, 1029]]])
    data = png_files.write(samples, 16, RGB, [chunk(b"tRNS", struct.pack(">3H", 258, 515, 1029))])
    assert decode_picture(data, "picture").alpha.tolist() == [[0, 255, 255, 255]]


def test_a_key_after_the_pixels_or_of_a_picture_with_alpha_is_none():
    samples = np.array([[[5, 255], [6, 100]]])
    late = png_files.write(samples[..., :1], 8, GREY)[:-12] + chunk(b"tRNS", b"\0\5") + chunk(b"IEND", b"")
    assert decode_picture(late, "picture").alpha is None
    both = png_files.write(samples, 8, GREY_ALPHA, [chunk(b"tRNS", b"\0\5")])
    assert decode_picture(both, "picture").alpha.tolist() == [[255, 100]]


SAMPLES = np.random.default_rng(0).integers(0, 256, (9, 7, 3))
UNWANTED = {
    "a long text": chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(3 << 20))),
    "a long text of any language": chunk(b"iTXt", b"note\0\1\0\0\0" + zlib.compress(bytes(3 << 20))),
    "a text of an unknown packing": chunk(b"zTXt", b"note\0\7xyz"),
    "a text called transparency": chunk(b"tEXt", b"transparency\x005"),
    "a text called interlace": chunk(b"tEXt", b"interlace\x001"),
    "a text called as a profile": chunk(b"tEXt", b"icc_profile\x00none"),
    "a checksum": chunk(b"tEXt", b"note\0x")[:-1] + b"?",
    "a gamma of no bytes": chunk(b"gAMA", b""),
    "white points cut off": chunk(b"cHRM", b"\0\0"),
    "a density cut off": chunk(b"pHYs", b"\0"),
    "an intent cut off": chunk(b"sRGB", b""),
    "a profile without a name": chunk(b"iCCP", b""),
}  # fmt: skip


@pytest.mark.parametrize("name", UNWANTED)
def test_what_stands_beside_the_pixels_hinders_nothing(name):
    before = (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, ImageFile.SAFEBLOCK)
    plain = png_files.write(SAMPLES, 8, RGB)
    for data in (png_files.write(SAMPLES, 8, RGB, [UNWANTED[name]]), plain[:-12] + UNWANTED[name] + plain[-12:]):
        picture = decode_picture(data, "picture")
        np.testing.assert_array_equal(picture.array, SAMPLES)
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, ImageFile.SAFEBLOCK)


def test_transparency_that_is_damaged_is_named():
    wrong = chunk(b"tRNS", b"\0\5")[:-1] + b"?"
    picture = decode_picture(png_files.write(SAMPLES[..., :1], 8, GREY, [wrong]), "picture")
    assert (picture.alpha, picture.left_out) == (None, ("transparency (its checksum is wrong)",))
    short = decode_picture(png_files.write(SAMPLES, 8, RGB, [chunk(b"tRNS", b"\0\5")]), "picture")
    assert (short.alpha, short.left_out) == (None, ("transparency (it has 2 bytes in place of 6)",))


@pytest.mark.parametrize(
    ("kind", "name", "named"),
    [
        (b"iCCP", b"a profile", "ICC profile"),
        (b"zTXt", b"Raw profile type exif", "text"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0", "text"),
    ],
)
def test_metadata_that_cannot_be_unpacked_are_named(kind, name, named):
    unwanted = chunk(kind, name + b"\0" * (kind != b"iTXt") + b"\0not packed")
    picture = decode_picture(png_files.write(SAMPLES, 8, RGB, [unwanted]), "picture")
    np.testing.assert_array_equal(picture.array, SAMPLES)
    assert [left.partition(" (")[0] for left in picture.left_out] == [named]


KEPT = (GREY, 1), (GREY, 16), (RGB, 8), (RGB, 16), (RGBA, 8), (RGBA, 16), (PALETTE, 4)


@pytest.mark.parametrize(("colour_type", "depth"), KEPT)
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_file_that_ends_early(colour_type, depth, interlaced):
    channels = {GREY: 1, RGB: 3, RGBA: 4, PALETTE: 1}[colour_type]
    samples = np.random.default_rng(1).integers(0, 1 << depth, (40, 33, channels))
    chunks = [chunk(b"PLTE", np.random.default_rng(2).bytes(48))] * (colour_type == PALETTE)
    data = png_files.write(samples, depth, colour_type, chunks, interlaced, filters=3)
    whole = decode_picture(data, "picture").array
    at = data.index(b"IDAT")
    cut = data[: at + (len(data) - at) * 3 // 4]
    with pytest.raises(ImageError, match=r"picture is broken: .*; tcm compress --allow-truncated reads what is there"):
        decode_picture(cut, "picture")
    with mock.patch.object(ImageFile, "LOAD_TRUNCATED_IMAGES", False):
        picture = decode_picture(cut, "picture", allow_truncated=True)
        assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert [what.partition(" ")[0] for what in picture.left_out] == ["end"]
    assert picture.array.shape == whole.shape
    if not interlaced:
        np.testing.assert_array_equal(picture.array[:24], whole[:24])
        assert (picture.array[-4:] != whole[-4:]).any()


def test_damage_is_not_an_early_end():
    data = bytearray(png_files.write(np.random.default_rng(1).integers(0, 256, (40, 33, 3)), 8, RGB))
    data[data.index(b"IDAT") + 60] ^= 255
    for allowed in (False, True):
        with pytest.raises(ImageError, match=r"picture is broken: (?!.*allow-truncated)"):
            decode_picture(bytes(data), "picture", allow_truncated=allowed)


def test_the_end_that_is_missing_cannot_always_be_made_up():
    whole = png_files.write(SAMPLES, 8, RGB)
    nonsense = bytearray(whole[:-20])
    nonsense[25] = 7  # a colour type that there is not
    tiff = io.BytesIO()
    Image.fromarray(SAMPLES.astype(np.uint8)).save(tiff, "TIFF", compression="tiff_lzw")
    for data in (bytes(nonsense), tiff.getvalue()[:300], b"BM" + bytes(60)):
        for allowed in (False, True):
            with pytest.raises(ImageError, match=r"picture is (broken|not a picture)"):
                decode_picture(data, "picture", allow_truncated=allowed)


def test_a_png_whose_chunks_are_damaged_is_called_broken():
    whole = png_files.write(SAMPLES, 8, RGB)
    length = whole[:33] + b"\x7f\xff\xff\xff" + chunk(b"tEXt", b"note\0x")[4:] + whole[33:]
    stated = rf"of the 2,147,483,647 bytes that its chunk tEXt states there are {len(length) - 41}"
    for data, reason in (
        (length, stated),
        (whole[:29] + bytes(4) + whole[33:], "the checksum of its chunk IHDR is wrong"),
        (whole[:33], "Pillow cannot read it, and gives no reason"),
        (whole[:8] + bytes(20), r"the checksum of its chunk \\x00\\x00\\x00\\x00 is wrong"),
    ):
        for file in (data, struct.pack("<HHH8xII", 0, 1, 1, len(data), 22) + data):
            with pytest.raises(ImageError, match=rf"^picture is broken: {reason}$"):
                decode_picture(file, "picture")


def test_what_we_write_is_read_again():
    picture = decode_picture(png_files.write(SAMPLES, 8, RGB), "picture")
    np.testing.assert_array_equal(decode_picture(encode_png(picture), "picture").array, SAMPLES)


def test_an_indexed_png_without_a_palette():
    header = struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(6))) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"^picture is broken: it has no palette$"):
        decode_picture(png.SIGNATURE + parts, "picture")


def test_a_transparent_colour_of_wrong_length_gives_way_to_the_next():
    """As in libpng."""
    header = struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0\7\x09")) + chunk(b"IEND", b"")
    keys = chunk(b"tRNS", b"\0\7" + bytes(11)) + chunk(b"tRNS", b"\0\x09")
    picture = decode_picture(png.SIGNATURE + chunk(b"IHDR", header) + keys + pixels, "picture")
    assert picture.alpha.tolist() == [[255, 0]]
    assert picture.left_out == ("transparency (it has 13 bytes in place of 2)",)
