"""Pictures whose metadata cannot be used: the pixels are read, upright, and one warning says what was left out."""

import io
import random
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from png_files import chunk

from tcm_jax.errors import TcmWarning
from tcm_jax.images import jpeg, metadata, repair, tiff
from tcm_jax.images.limits import MAX_METADATA
from tcm_jax.images.picture import Picture
from tcm_jax.images.pictures import decode_image, decode_picture, encode_png, for_png, from_pil, read_picture

CASES = Path(__file__).parent / "cases"
RGB = np.random.RandomState(0).randint(0, 256, (16, 24, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
UPRIGHT, TURNED = (96, 128, 3), (128, 96, 3)
# What is read of a file: its shape, and what its warning must name.
FILES = {
    "exif_blank.jpg": (UPRIGHT, ""),
    "exif_double_prefix.jpg": (TURNED, ""),
    "exif_garbage.jpg": (UPRIGHT, r"EXIF \(it has no TIFF header\)"),
    "exif_ori_0.jpg": (UPRIGHT, ""),
    "exif_ori_9.jpg": (UPRIGHT, ""),
    "exif_ori_65535.jpg": (UPRIGHT, ""),
    "exif_ori_ascii.jpg": (UPRIGHT, ""),
    "exif_ori_bad_pointer.jpg": (TURNED, ""),
    "exif_ori_count2.jpg": (TURNED, ""),
    "exif_ori_exif_short_undefined.jpg": (TURNED, ""),
    "exif_ori_gps_byte.jpg": (TURNED, r"EXIF \(its orientation cannot be taken out: bad operand .*\)"),
    "exif_ori_long.jpg": (TURNED, ""),
    "exif_ori_truncated_ifd.jpg": (TURNED, r"EXIF \(it is cut off\)"),
    "exif_ori_two_xres.jpg": (TURNED, ""),
    "exif_ori_zero_zero.jpg": (TURNED, ""),
    "cmyk_noprofile.jpg": (UPRIGHT, ""),
    "cmyk_garbage_profile.jpg": (UPRIGHT, r"ICC profile \(cannot open profile from string\)"),
    "cmyk_rgb_profile.jpg": (UPRIGHT, r"ICC profile \(cannot build transform\)"),
    "cmyk_trunc_profile.jpg": (UPRIGHT, r"ICC profile \(cannot build transform\)"),
    "icc_empty.jpg": (UPRIGHT, r"ICC profile \(it is no ICC profile\)"),
    "icc_garbage.jpg": (UPRIGHT, r"ICC profile \(it is no ICC profile\)"),
    "icc_srgb.jpg": (UPRIGHT, ""),
    "grey_rgb_profile.jpg": (UPRIGHT[:2], r"ICC profile \(it is for RGB samples, and these are grey\)"),
    "mpo_ori6.jpg": (TURNED, ""),
    "ori6.avif": (TURNED, ""),
    "ori6.webp": (TURNED, ""),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning", "ignore:Metadata Warning:UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_every_file_is_read_and_what_we_write_of_it_again(name):
    shape, left_out = FILES[name]
    picture = read_picture(CASES / name)
    assert picture.colour.shape == shape
    assert_names(picture, left_out)
    again = decode_picture(encode_png(picture), "copy")
    np.testing.assert_array_equal(again.array, picture.array)
    assert (again.icc, again.exif, again.left_out) == (picture.icc, picture.exif, ())


def assert_names(picture: Picture, left_out: str) -> None:
    message = picture.warning("a picture", "read")
    expected = f"a picture is read without its {left_out}" if left_out else "None"
    assert re.fullmatch(expected, str(message))


def test_a_cmyk_picture_without_a_usable_profile_has_the_colours_of_one_without_any():
    plain = read_picture(CASES / "cmyk_noprofile.jpg").array
    for name in ("cmyk_garbage_profile.jpg", "cmyk_rgb_profile.jpg", "cmyk_trunc_profile.jpg"):
        np.testing.assert_array_equal(read_picture(CASES / name).array, plain)


def test_a_lab_picture_without_a_usable_profile_is_of_the_standard_one():
    lab = ImageCms.profileToProfile(Image.fromarray(RGB), ImageCms.createProfile("sRGB"),
                                    ImageCms.createProfile("LAB"), outputMode="LAB")  # fmt: skip
    plain, odd = (planes(lab, "TIFF", icc_profile=icc) for icc in (None, b"garbage"))
    np.testing.assert_array_equal(plain.array, odd.array)
    assert_names(odd, r"ICC profile \(.*\)")


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def planes(image: Image.Image, file_format: str = "PNG", **options) -> Picture:
    return decode_picture(encoded(image, file_format, **options), "picture")


def exif_of(orientation: int, order: str = "<", kind: int = 3, rest: bytes = b"") -> bytes:
    form = {1: "B3x", 3: "H2x", 4: "I"}[kind]
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    return head + struct.pack(order + "HHHI" + form + "I", 1, 0x112, kind, 1, orientation, 0) + rest


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_every_orientation_is_that_of_pillow(orientation, file_format):
    rgba = np.dstack([RGB, RGB[..., :1]]) if file_format != "JPEG" else RGB
    for order, kind in (("<", 3), (">", 3), (">", 4), ("<", 1)):
        exif = b"Exif\0\0" + exif_of(orientation, order, kind)
        data = encoded(Image.fromarray(rgba), file_format, exif=exif, lossless=True)
        with Image.open(io.BytesIO(data)) as image:
            plain = Image.fromarray(np.asarray(image))
        plain.getexif()[0x112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(plain))
        np.testing.assert_array_equal(decode_picture(data, "picture").array, expected)


def test_orientation_of_damaged_exif_is_honoured_and_of_nonsense_not():
    good = exif_of(6)
    assert metadata.exif_orientation(good[:-4]) == 6
    assert metadata.exif_orientation(good.replace(b"\1\0\x12", b"\7\0\x12")) == 6
    for nonsense in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08", good[4:], good[:16]):
        assert metadata.exif_orientation(nonsense) is None
        with pytest.raises(metadata.UnusableError):
            metadata.check_exif(nonsense)
    metadata.check_exif(good)
    with warnings.catch_warnings(), pytest.raises(metadata.UnusableError, match=r"^it is damaged$"):
        warnings.simplefilter("ignore")  # Pillow's
        metadata.without_orientation(good[:-5])  # Pillow finds none to take out


def test_of_two_orientations_the_first_counts():
    for first, second in ((1, 6), (6, 1), (9, 6)):
        one, other = exif_of(first), exif_of(second)
        exif = one[:8] + struct.pack("<H", 2) + one[10:22] + other[10:22] + bytes(4)
        picture = planes(Image.fromarray(RGB), exif=b"Exif\0\0" + exif)
        np.testing.assert_array_equal(picture.array, np.rot90(RGB, -1) if first == 6 else RGB)
        if first == 6:
            assert metadata.exif_orientation(picture.exif) is None


def test_orientations_that_are_no_integers():
    """Rationals and floating-point numbers, as Pillow reads them."""
    head = b"MM\0*" + struct.pack(">IH", 8, 1)
    for kind, numbers, expected in (
        (5, struct.pack(">II", 12, 2), 6), (5, struct.pack(">II", 13, 2), 0), (5, struct.pack(">II", 6, 0), 0),
        (10, struct.pack(">ii", -6, -1), 6), (11, struct.pack(">f", 6), 6), (11, struct.pack(">f", 6.5), 0),
        (11, struct.pack(">f", float("nan")), 0), (12, struct.pack(">d", 8), 8), (5, bytes(8), 0),
    ):  # fmt: skip
        inline = len(numbers) == 4
        value, rest = (numbers, b"") if inline else (struct.pack(">I", 26), numbers)
        exif = head + struct.pack(">HHI", 0x112, kind, 1) + value + bytes(4) + rest
        assert metadata.exif_orientation(exif) == expected
        picture = planes(Image.fromarray(RGB), exif=b"Exif\0\0" + exif)
        assert picture.colour.shape == (np.rot90(RGB).shape if expected else RGB.shape)


def test_orientation_of_xmp_and_of_an_old_form_of_exif():
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    plain = encoded(Image.fromarray(RGB))
    turned = np.rot90(RGB, -1)
    hexadecimal = f"\nexif\n{len(exif_of(6)) + 6:8}\n{(b'Exif' + bytes(2) + exif_of(6)).hex()}\n".encode()
    for text in (
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
        chunk(b"tEXt", b"Raw profile type exif\0" + hexadecimal),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexadecimal)),
    ):
        np.testing.assert_array_equal(decode_picture(plain[:33] + text + plain[33:], "picture").array, turned)
        np.testing.assert_array_equal(decode_picture(plain[:-12] + text + plain[-12:], "picture").array, turned)
    webp = encoded(Image.fromarray(RGB), "WEBP", lossless=True, xmp=xmp)
    np.testing.assert_array_equal(decode_picture(webp, "picture").array, turned)


def test_orientation_in_a_pngs_text_beside_exif_that_has_none():
    exif = Image.Exif()
    exif[0x10F] = "a camera"
    content = exif_of(6).hex().encode()
    plain = encoded(Image.fromarray(RGB), exif=exif)
    text = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(content) // 2, content))
    picture = decode_picture(plain[:33] + text + plain[33:], "picture")
    np.testing.assert_array_equal(picture.array, np.rot90(RGB, -1))
    assert picture.exif == exif.tobytes().removeprefix(b"Exif\0\0")


def test_exif_in_a_pngs_text_is_kept():
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "a camera"
    content = exif.tobytes()
    text = f"\nexif\n{len(content):8}\n{content.hex()}\n".encode()
    plain = encoded(Image.fromarray(RGB))
    picture = decode_picture(plain[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + text) + plain[33:], "picture")
    kept = Image.Exif()
    kept.load(picture.exif)
    assert dict(kept) == {0x10F: "a camera"}  # upright now
    np.testing.assert_array_equal(picture.array, np.rot90(RGB, -1))


def test_the_orientation_of_a_tiff_is_its_tag():
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    for orientation, expected in ((1, RGB), (6, np.rot90(RGB, -1))):
        picture = planes(Image.fromarray(RGB), "TIFF", tiffinfo={0x112: orientation, 700: xmp})
        np.testing.assert_array_equal(picture.array, expected)


def test_a_tiff_that_pillow_opened_is_upright():
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    data = encoded(Image.fromarray(RGB), "TIFF", tiffinfo={0x112: 1, 700: xmp})
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(from_pil(image).array, decode_picture(data, "picture").array)


def tiff_of(mode: str, big: bool) -> bytes:
    image = Image.fromarray(RGB) if mode == "RGB" else Image.fromarray(RGB[..., 0].astype(np.uint16)).convert(mode)
    return encoded(image, "TIFF", icc_profile=SRGB, big_tiff=big)


@pytest.mark.filterwarnings("ignore:Tag data larger than file:UserWarning")
@pytest.mark.parametrize(("mode", "big"), [("RGB", False), ("RGB", True), ("I;16B", False)])
def test_a_tiff_whose_profile_is_not_there(mode, big):
    data, order, form = tiff_of(mode, big), ">" if mode == "I;16B" else "<", "HHQ" if big else "HHI"
    if big and data[:4] == b"II*\0":
        pytest.skip("this Pillow writes no BigTIFF")
    assert data[:4] == (b"MM\0*" if mode == "I;16B" else b"II+\0" if big else b"II*\0")
    entry = struct.pack(order + form, 34675, 7, len(SRGB))
    expected = decode_picture(data, "picture")
    assert "Pillow does not give it" not in str(expected.left_out)
    for kind, count, lost in ((7, 10 * len(SRGB), True), (4, 1, True), (7, 0, False)):
        picture = decode_picture(data.replace(entry, struct.pack(order + form, 34675, kind, count)), "picture")
        assert ("ICC profile (Pillow does not give it)" in picture.left_out) == lost
        np.testing.assert_array_equal(picture.array, expected.array)


def test_a_tiffs_directory_as_far_as_it_goes():
    data = tiff_of("RGB", False)
    (start,) = struct.unpack_from("<I", data, 4)
    assert len(list(tiff.entries(data))) == data[start]
    for count, size in ((0, start + 1), (0, start + 13), (1, start + 14), (1, start + 25), (2, start + 26)):
        assert len(list(tiff.entries(data[:size]))) == count
    assert tiff.has_profile(data)
    assert not tiff.has_profile(b"II-\0" + data[4:])  # of another kind
    assert list(tiff.entries(b"II*\0\xff")) == list(tiff.entries(b"II*\0\xff\xff\xff\xff")) == []


def test_a_tiff_whose_second_page_is_not_there():
    """Pillow, asked how many there are, goes to the end, and what it knows then is not of the first."""
    turned, pages = Image.Exif(), io.BytesIO()
    turned[0x112] = 6
    second = Image.fromarray(RGB[:8, :10])
    Image.fromarray(RGB).save(pages, "TIFF", save_all=True, append_images=[second], exif=turned, icc_profile=SRGB)
    data = pages.getvalue()
    (start,) = struct.unpack_from("<I", data, 4)
    after = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    for file in (data, data[:-200], data[:after] + struct.pack("<I", 100) + data[after + 4 :]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's
            picture = decode_picture(file, "picture")
        np.testing.assert_array_equal(picture.array, np.rot90(RGB, -1))
        assert picture.icc == SRGB
        assert [left.startswith("frames after the first (") for left in picture.left_out] == [True]


def test_the_profile_of_a_gif_is_named():
    plain = encoded(Image.fromarray(RGB[..., 0]), "GIF")
    at = plain.index(b"\x2c\0\0\0\0")
    extension = b"\x21\xff\x0bICCRGBG1012\4abcd\0"
    assert_names(decode_picture(plain[:at] + extension + plain[at:], "picture"), r"ICC profile \(Pillow does .*\)")
    assert decode_picture(plain, "picture").left_out == ()


def test_profiles_of_bmp_and_of_jpeg_2000_are_named():
    bitmap = encoded(Image.fromarray(RGB), "BMP")
    header = struct.pack("<I", 124) + bitmap[18:54] + bytes(16) + b"DEBM" + bytes(48) + struct.pack("<4I", 4, 0, 0, 0)
    start = struct.pack("<I", 14 + len(header))
    picture = decode_picture(bitmap[:10] + start + header + bitmap[54:], "picture")
    np.testing.assert_array_equal(picture.array, RGB)
    assert_names(picture, r"ICC profile \(Pillow does not give it\)")
    jp2 = encoded(Image.fromarray(RGB), "JPEG2000", irreversible=False)
    assert decode_picture(jp2, "picture").left_out == ()
    at = jp2.index(b"colr") - 4
    profile = struct.pack(">I", 11 + len(SRGB)) + b"colr\2\0\0" + SRGB
    data = bytearray(jp2[:at] + profile + jp2[at + int.from_bytes(jp2[at : at + 4]) :])
    header = data.index(b"jp2h") - 4
    grown = int.from_bytes(data[header : header + 4]) + len(data) - len(jp2)
    data[header : header + 4] = struct.pack(">I", grown)
    picture = decode_picture(bytes(data), "picture")
    np.testing.assert_array_equal(picture.array, RGB)
    assert_names(picture, r"ICC profile \(Pillow does not give it\)")


def test_an_avif_whose_exif_pillow_stumbles_over():
    pytest.importorskip("PIL._avif")
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "a camera"
    data = encoded(Image.fromarray(RGB), "AVIF", exif=exif)
    sound = decode_picture(data, "picture")
    assert (sound.colour.shape, sound.left_out) == ((24, 16, 3), ())
    picture = decode_picture(data.replace(b"MM\0*", b"oops"), "picture")
    assert_names(picture, r"other metadata \(.*\)")
    np.testing.assert_array_equal(picture.array, sound.array)


def test_a_webp_that_ends_within_its_exif():
    """Its pixels, which come before, are all there, and libwebp refuses them."""
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "a camera"
    data = encoded(Image.fromarray(RGB), "WEBP", exif=exif, lossless=True)
    picture = decode_picture(data[:-1], "picture")
    np.testing.assert_array_equal(picture.array, np.rot90(RGB, -1))
    assert_names(picture, r"other metadata \(.*\)")


def test_what_a_jpeg_holds_beside_its_pixels():
    """For the case that Pillow does not get so far: an error of a warning's, or of a segment of other programs."""
    icc = (100_000).to_bytes(4, "big") + SRGB[4:] + random.Random(1).randbytes(100_000 - len(SRGB))
    xmp = b'<x tiff:Orientation="6"/>'
    data = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0" + exif_of(6), icc_profile=icc, xmp=xmp, comment=b"hi")
    first, second = (data.index(b"ICC_PROFILE\0" + number) - 4 for number in (b"\1", b"\2"))
    end = second + 2 + int.from_bytes(data[second + 2 : second + 4], "big")
    swapped = data[:first] + data[second:end] + b"\xff" + data[first:second] + data[end:]
    for file in (data, swapped):
        pixels, info = repair.without_metadata(file)
        assert info == {"exif": exif_of(6), "xmp": xmp}
        assert jpeg.profile(file) == icc
        with Image.open(io.BytesIO(pixels)) as bare, Image.open(io.BytesIO(data)) as whole:
            np.testing.assert_array_equal(np.asarray(bare), np.asarray(whole))
            assert not bare.info.keys() & {"exif", "icc_profile", "xmp", "comment"}


def with_segments(*bodies: bytes) -> bytes:
    """A JPEG with these segments APP2, and EXIF that turns it."""
    plain = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0" + exif_of(6))
    return plain[:2] + b"".join(b"\xff\xe2" + struct.pack(">H", 2 + len(body)) + body for body in bodies) + plain[2:]


FIRST, SECOND = SRGB[:200], SRGB[200:]


@pytest.mark.parametrize(
    "parts",
    [
        [b"\1\2" + FIRST, b"\2\2" + SECOND],
        [b"\2\2" + SECOND, b"\1\2" + FIRST],
        [b"\0\2" + FIRST, b"\1\2" + SECOND],
        [b"\1\2" + FIRST, b"\2\2" + SECOND, b"\1\2" + FIRST],
        [b"\0\0" + SRGB],
        [b"\2\1" + SRGB],
        [b"\1\2" + FIRST, b"\2\7" + SECOND],
    ],
    ids=[
        "numbered",
        "in another order",
        "from zero",
        "one of them twice",
        "without a count",
        "misnumbered alone",
        "of another count",
    ],
)
def test_a_jpegs_profile_is_joined(parts):
    picture = decode_picture(with_segments(*(b"ICC_PROFILE\0" + part for part in parts)), "picture")
    assert (picture.icc, picture.left_out) == (SRGB, ())
    assert picture.colour.shape == (24, 16, 3)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([b"\1\3" + FIRST, b"\3\3" + SECOND], "its 2 parts are not numbered as that many"),
        ([bytes([i % 256, 1]) + b"part" * i for i in range(1, 301)], "its 300 parts are not numbered as that many"),
        ([b"\1\2" + FIRST, b"\1\2" + SECOND], "its 2 parts are not numbered as that many"),
        ([b"\0\0" + FIRST, b"\0\0" + SECOND], "its 2 parts are not numbered as that many"),
        ([b"\1\2" + FIRST, b""], "its 2 parts are not numbered as that many"),
        ([b"\1\2" + FIRST], f"it is cut off: 200 bytes of {len(SRGB)}"),
        ([b"\1\1"], "it is empty"),
        ([b"\1"], "it is empty"),
        ([b""], "it is empty"),
    ],
)
def test_a_jpegs_profile_of_which_a_part_is_missing(parts, reason):
    picture = decode_picture(with_segments(*(b"ICC_PROFILE\0" + part for part in parts)), "picture")
    assert picture.icc == b""
    assert_names(picture, rf"ICC profile \({reason}\)")
    assert picture.colour.shape == (24, 16, 3)


def test_a_cmyk_jpeg_with_part_of_its_profile_has_the_colours_of_one_without():
    plain = (CASES / "cmyk_noprofile.jpg").read_bytes()
    body = b"ICC_PROFILE\0\1\2" + SRGB
    data = (
        plain[:2] + b"\xff\xe2" + struct.pack(">H", 2 + len(body)) + body + b"\xff\xe2\0\x0eICC_PROFILE\0" + plain[2:]
    )
    picture = decode_picture(data, "picture")
    np.testing.assert_array_equal(picture.array, decode_picture(plain, "picture").array)
    assert_names(picture, r"ICC profile \(its 2 parts .*\)")


@pytest.mark.parametrize("junk", [b"\0\0", b"\xff", b"\xff\0", b"\xff\xd0", b"abc", b"a\xe2\0\2"])
def test_what_stands_between_the_segments_of_a_jpeg_is_skipped(junk):
    whole = with_segments(b"ICC_PROFILE\0\1\2" + FIRST, b"ICC_PROFILE\0\2\2" + SECOND)
    at = whole.rindex(b"\xff\xe2")
    picture = decode_picture(whole[:at] + junk + whole[at:], "picture")
    assert picture.colour.shape == (24, 16, 3)
    assert (picture.icc, picture.left_out) == (SRGB, ())


def test_profiles_are_those_of_the_first_picture_and_of_their_own_segments():
    """A photograph with its preview behind it has two; a comment may begin like one."""
    whole, preview = with_segments(b"ICC_PROFILE\0\1\1" + SRGB), with_segments(b"ICC_PROFILE\0\1\1" + bytes(200))
    body = b"ICC_PROFILE\0\1\1" + bytes(99)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(body)) + body
    assert [end for _, _, end in jpeg._segments(whole)][-1] == whole.index(b"\xff\xda")  # where the pixels begin
    picture = decode_picture(whole[:2] + comment + whole[2:] + preview, "picture")
    assert (picture.icc, picture.left_out) == (SRGB, ())


def test_what_says_the_channels_of_a_jpeg_stays_and_what_is_cut_of_it_goes():
    """Pillow refuses a segment of JFIF or Adobe that is too short; libjpeg does not look at it."""
    plain = encoded(Image.fromarray(RGB), "JPEG", keep_rgb=True, comment=b"a comment", icc_profile=SRGB)
    assert b"Adobe" in plain
    for file in (plain, encoded(Image.fromarray(RGB), "JPEG", comment=b"a comment", icc_profile=SRGB)):
        pixels, _ = repair.without_metadata(file)
        assert (b"JFIF" in pixels, b"Adobe" in pixels, b"a comment" in pixels) == (
            b"JFIF" in file,
            b"Adobe" in file,
            False,
        )
        expected = decode_picture(file, "picture").array
        for cut in (b"\xff\xe0\0\7JFIF\0", b"\xff\xee\0\7Adobe"):
            picture = decode_picture(file[:2] + cut + file[2:], "picture")
            np.testing.assert_array_equal(picture.array, expected)
            assert_names(picture, r"other metadata \(Pillow cannot read it\)")
            assert picture.icc == SRGB


def test_exif_of_a_jpeg_in_two_segments():
    whole = with_segments()
    at, length = whole.index(b"\xff\xe1"), len(exif_of(6))
    end = at + 4 + 6 + length
    halves = (exif_of(6)[:20], exif_of(6)[20:])
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", 8 + len(half)) + b"Exif\0\0" + half for half in halves)
    assert repair.without_metadata(whole[:at] + segments + whole[end:])[1]["exif"] == exif_of(6)


def wrong_sum(part: bytes) -> bytes:
    return part[:-1] + bytes([part[-1] ^ 1])


def as_text(exif: bytes) -> bytes:
    return b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())


def test_which_orientation_of_a_png_goes_first():
    plain = encoded(Image.fromarray(RGB))
    damaged, text = (
        wrong_sum(chunk(b"eXIf", exif_of(6))),
        chunk(b"tEXt", b"Raw profile type exif\0" + as_text(exif_of(2))),
    )
    for parts, orientation in (
        (damaged + chunk(b"eXIf", exif_of(3)), 3),
        (damaged + text, 2),
        (damaged + text + chunk(b"eXIf", b"II*\0\x08\0\0\0" + bytes(6)), 2),
        (damaged + chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="3"/>'), 6),
        (text, 2),
        (wrong_sum(text), 2),
        (wrong_sum(chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')), 6),
        (chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(as_text(exif_of(6) + SRGB))[:-50]), 6),
    ):
        expected = {2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 6: np.rot90(RGB, -1)}[orientation]
        np.testing.assert_array_equal(decode_picture(plain[:33] + parts + plain[33:], "picture").array, expected)


def test_a_pngs_text_that_should_be_exif_and_is_not():
    plain = encoded(Image.fromarray(RGB))
    for text, reason in (
        (b"\nexif\n       9\nno digits\n", "it has no TIFF header"),
        (as_text(exif_of(1)[:20]), "it is cut off"),
    ):
        part = chunk(b"tEXt", b"Raw profile type exif\0" + text)
        assert_names(decode_picture(plain[:33] + part + plain[33:], "picture"), rf"EXIF \({reason}\)")


@pytest.mark.parametrize("kind", [b"acTL", b"fcTL", b"fdAT"])
def test_a_png_whose_animation_is_cut(kind):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    parts, at = buffer.getvalue(), buffer.getvalue().index(kind) - 4
    end = at + 12 + int.from_bytes(parts[at : at + 4])
    picture = decode_picture(parts[:at] + chunk(kind, b"\0\0\1") + parts[end:], "picture")
    np.testing.assert_array_equal(picture.array, RGB)
    assert_names(picture, r"frames after the first \(a part of what describes them is missing\)")


def test_an_icon_of_a_png_with_damaged_metadata():
    data = encoded(Image.fromarray(np.dstack([RGB[:, :16], RGB[:, :16, :1]])), "ICO", sizes=[(16, 16)])
    sound, at = decode_picture(data, "picture"), data.index(b"IDAT") - 4
    damaged = data[:at] + wrong_sum(chunk(b"iCCP", b"name\0\0" + zlib.compress(SRGB))) + data[at:]
    size = len(damaged) - 22
    picture = decode_picture(damaged[:14] + struct.pack("<I", size) + damaged[18:], "picture")
    np.testing.assert_array_equal(picture.array, sound.array)
    assert_names(picture, r"ICC profile \(its checksum is wrong\)")


def test_chunks_of_a_png_that_are_empty_or_damaged():
    plain = encoded(Image.fromarray(RGB))
    for part, left_out, array in (
        (chunk(b"iCCP", b"name\0\0"), r"ICC profile \(it is empty\)", RGB),
        (chunk(b"iCCP", b""), r"ICC profile \(it is empty\)", RGB),
        (chunk(b"iCCP", b"name\0\0" + zlib.compress(b"")), r"ICC profile \(it is empty\)", RGB),
        (chunk(b"eXIf", b""), r"EXIF \(it is empty\)", RGB),
        (wrong_sum(chunk(b"eXIf", exif_of(6))), r"EXIF \(its checksum is wrong\)", np.rot90(RGB, -1)),
        (wrong_sum(chunk(b"eXIf", b"Exif\0\0" + exif_of(6))), r"EXIF \(its checksum is wrong\)", np.rot90(RGB, -1)),
        (wrong_sum(chunk(b"iCCP", exif_of(6))), r"ICC profile \(its checksum is wrong\)", RGB),
    ):
        picture = decode_picture(plain[:33] + part + plain[33:], "picture")
        assert_names(picture, left_out)
        np.testing.assert_array_equal(picture.array, array)
        assert (picture.icc, picture.exif) == (b"", b"")


def test_profiles_that_cannot_be_kept():
    for icc, reason in (
        (SRGB[:300], f"it is cut off: 300 bytes of {len(SRGB)}"),
        (SRGB[:16] + b"CMYK" + SRGB[20:], "it is for CMYK samples, and these are RGB"),
        (bytes(200), "it is no ICC profile"),
        (SRGB + bytes(MAX_METADATA), r"it has [\d,]+ bytes, over the limit of 4,194,304"),
    ):
        for file_format in ("PNG", "WEBP"):
            picture = planes(Image.fromarray(RGB), file_format, icc_profile=icc)
            assert picture.icc == b""
            assert_names(picture, rf"ICC profile \({reason}\)")
    assert planes(Image.fromarray(RGB), icc_profile=SRGB + b"padding").icc == SRGB + b"padding"


def test_a_profile_that_a_png_cannot_hold():
    icc = (1_500_000).to_bytes(4, "big") + SRGB[4:] + random.Random(0).randbytes(1_500_000 - len(SRGB))
    read = planes(Image.fromarray(RGB), "JPEG", icc_profile=icc)
    assert (read.icc, read.left_out) == (icc, ())
    with Image.open(io.BytesIO(encode_png(read))) as copy:
        copy.load()
        assert "icc_profile" not in copy.info
    assert_names(for_png(read), r"ICC profile \(it has 1,500,000 bytes; Pillow reads no PNG with more than 1,048,576\)")
    most = (1 << 20).to_bytes(4, "big") + SRGB[4:] + bytes((1 << 20) - len(SRGB))
    assert decode_picture(encode_png(Picture(RGB, icc=most)), "copy").icc == most
    assert for_png(Picture(RGB, icc=most)).left_out == ()


def test_exif_of_an_earlier_file_that_a_png_cannot_hold():
    written = for_png(Picture(RGB, exif=b"not a tiff header at all"))
    assert (written.exif, written.left_out) == (b"", ("EXIF (it has no TIFF header)",))
    with Image.open(io.BytesIO(encode_png(Picture(RGB, exif=b"not a tiff header at all")))) as copy:
        assert not copy.getexif()


def test_the_library_warns_once_with_everything():
    data = encoded(Image.fromarray(RGB), exif=b"Exif\0\0garbage", icc_profile=SRGB[:300])
    sentence = (
        r"^photo\.png is read without its ICC profile \(it is cut off: 300 bytes of \d+\) and its "
        r"EXIF \(it has no TIFF header\)$"
    )
    with pytest.warns(TcmWarning, match=sentence) as caught:
        decode_image(data, "photo.png")
    assert len(caught) == 1
    with Image.open(io.BytesIO(data)) as image, pytest.warns(TcmWarning, match=r"^the picture is read without its ICC"):
        from_pil(image)


def random_exif(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind < 2:
        return (b"", b"II*\0", b"MM\0*\0\0\0\x08")[rng.randrange(3)] + rng.randbytes(rng.randrange(60))
    exif = Image.Exif()
    exif[0x112], exif[0x10F], exif[0x8769] = rng.randrange(1, 9), "a camera", {36867: "2020"}
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    return damaged(rng, exif.tobytes().removeprefix(b"Exif\0\0"))


def damaged(rng: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(rng.randrange(6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(1, len(data) + 1)] if rng.randrange(3) == 0 else data)


ALL_TURNS = [turn(side) for side in (RGB, RGB[::-1], RGB[:, ::-1], RGB[::-1, ::-1])
             for turn in (lambda a: a, lambda a: a.swapaxes(0, 1))]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "MPO", "AVIF"]), st.integers(0, 2**32))
def test_random_metadata_hides_no_picture(file_format, seed):
    rng, options = random.Random(seed), {}
    if rng.randrange(4):
        prefix = b"Exif\0\0" if file_format in ("JPEG", "MPO") else b""
        options["exif"] = prefix + random_exif(rng)
    if rng.randrange(2):
        options["icc_profile"] = damaged(rng, SRGB)
    if rng.randrange(2) and file_format != "MPO":
        options["xmp"] = (rng.randbytes(20), b'<x tiff:Orientation="%d"/>' % rng.randrange(10))[rng.randrange(2)]
    if file_format == "WEBP":
        options["lossless"] = True
    if file_format == "MPO":
        options |= {"save_all": True, "append_images": [Image.fromarray(RGB)]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd fields
        try:
            data = encoded(Image.fromarray(RGB), file_format, **options)
        except Exception:  # Pillow's writer of AVIF looks into EXIF
            return
        if file_format == "MPO":
            at = data.index(b"MPF\0") + 4
            data = data[:at] + damaged(rng, data[at : at + 80]).ljust(80, b"\0") + data[at + 80 :]
        picture = decode_picture(data, "picture")
        again = decode_picture(encode_png(picture), "copy")
    assert sorted(picture.colour.shape[:2]) == [16, 24]
    if file_format in ("PNG", "WEBP"):
        assert any(np.array_equal(picture.array, turned) for turned in ALL_TURNS)
    np.testing.assert_array_equal(again.array, picture.array)
    assert (again.icc, again.exif, again.left_out) == (picture.icc, picture.exif, ())


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([None, "tiff_lzw"]), st.integers(0, 2**32))
def test_random_tags_beside_the_pixels_hide_no_tiff(compression, seed):
    rng = random.Random(seed)
    options = {} if compression is None else {"compression": compression}
    data = bytearray(encoded(Image.fromarray(RGB), "TIFF", tiffinfo={271: "make", 305: "software"}, **options))
    (start,) = struct.unpack_from("<I", data, 4)
    for at in range(start + 2, start + 2 + 12 * data[start], 12):
        if struct.unpack_from("<H", data, at)[0] in (271, 305):
            struct.pack_into("<H", data, at, rng.choice([34665, 34853, 700, 33723, 34377, 34675]))
            data[at + 2] = rng.choice([1, 2, 3, 4, 7, 13])
            data[at + 4 : at + 12] = rng.randbytes(8) if rng.randrange(2) else data[at + 4 : at + 12]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(decode_picture(bytes(data), "picture").array, RGB)
