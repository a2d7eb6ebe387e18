"""Icons and cursors: the transparency of the PNG in one is that of the PNG alone, and a cursor has its mask."""

import io
import struct

import numpy as np
import png_files
import pytest
from PIL import Image
from png_files import GREY, PALETTE, RGB, chunk

from tcm_jax.errors import ImageError
from tcm_jax.images import icons
from tcm_jax.images.pictures import decode_picture, from_pil

RNG = np.random.default_rng(0)
SIDE = 16
KEYED = {(GREY, 1): 1, (GREY, 4): 1, (GREY, 8): 1, (GREY, 16): 1, (RGB, 8): 3, (RGB, 16): 3}
MASK = RNG.integers(0, 2, (SIDE, SIDE))


def pngs() -> dict[str, bytes]:
    """PNGs whose transparency Pillow does not give when they are in an icon."""
    made = {}
    for (colour_type, depth), channels in KEYED.items():
        samples = RNG.integers(0, 1 << depth, (SIDE, SIDE, channels))
        samples[3, 4] = samples[5, 6] = samples[0, 0]
        samples[0, 1] = samples[0, 0] ^ 1  # which has the same high byte at 16 bits
        key = chunk(b"tRNS", samples[0, 0].astype(">u2").tobytes())
        made[f"a key of {channels} samples of {depth} bits"] = png_files.write(samples, depth, colour_type, [key])
    colours, alpha = chunk(b"PLTE", RNG.bytes(48)), chunk(b"tRNS", RNG.bytes(10))
    indexes = RNG.integers(0, 16, (SIDE, SIDE, 1))
    made["a palette"] = png_files.write(indexes, 4, PALETTE, [colours, alpha])
    return made


def icon(*pictures: bytes, kind: int = 1, side: int = SIDE, bits: int = 32) -> bytes:
    """An ICO (kind 1) or CUR (kind 2); each picture states half of the side of the one before."""
    start, entries = 6 + 16 * len(pictures), b""
    for i, picture in enumerate(pictures):
        point_or_bits = (1, bits) if kind == 1 else (7, 5)
        entries += struct.pack("<BBBBHHII", side >> i, side >> i, 0, 0, *point_or_bits, len(picture), start)
        start += len(picture)
    return struct.pack("<HHH", 0, kind, len(pictures)) + entries + b"".join(pictures)


def apple_icon(picture: bytes, kind: bytes = b"icp4") -> bytes:
    return b"icns" + struct.pack(">I", 16 + len(picture)) + kind + struct.pack(">I", 8 + len(picture)) + picture


def bitmap(depth: int, side: int = SIDE) -> tuple[bytes, np.ndarray]:
    """(a bitmap of an icon with its mask, what is seen of it [H, W, 4])."""
    mask = MASK[:side, :side]
    masked = b"".join(np.packbits(row).tobytes().ljust(4, b"\0") for row in mask[::-1])
    colours = RNG.integers(0, 256, (1 << min(depth, 8), 3), dtype=np.uint8)
    if depth <= 8:
        indexes = RNG.integers(0, 1 << depth, (side, side))
        bits = (indexes[::-1, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = [np.packbits(row.astype(np.uint8)).tobytes() for row in bits.reshape(side, -1)]
        pixels = b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows)
        palette = np.pad(colours[:, ::-1], ((0, 0), (0, 1))).tobytes()
        seen = colours[indexes]
    else:
        seen = RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)
        pixels, palette = seen[::-1, :, ::-1].tobytes(), b""
    header = struct.pack("<IiiHHIIIIII", 40, side, 2 * side, 1, depth, 0, 0, 0, 0, 0, 0)
    return header + palette + pixels + masked, np.dstack([seen, np.where(mask, 0, 255)])


@pytest.mark.parametrize("name", pngs())
def test_a_png_in_an_icon_is_read_as_the_png_alone(name):
    data = pngs()[name]
    expected = decode_picture(data, "picture").array
    assert len(np.unique(expected[..., -1])) > 1
    for file in (icon(data), icon(data, kind=2), apple_icon(data)):
        np.testing.assert_array_equal(decode_picture(file, "picture").array, expected)


def test_a_png_that_ends_early_in_an_icon():
    data = png_files.write(RNG.integers(0, 256, (SIDE, SIDE, 3)), 8, RGB)
    whole = decode_picture(data, "picture").array
    for file in (icon(data), icon(data, kind=2), apple_icon(data)):
        cut = file[:-300]
        with pytest.raises(ImageError, match=r"picture is broken: .*--allow-truncated reads what is there"):
            decode_picture(cut, "picture")
        picture = decode_picture(cut, "picture", allow_truncated=True)
        np.testing.assert_array_equal(picture.array[:8], whole[:8])
        assert [left.partition(" ")[0] for left in picture.left_out] == ["end"]


def test_of_several_pictures_the_largest_is_read():
    data = pngs()["a palette"]
    (large, seen), (small, _) = bitmap(24), bitmap(24, SIDE // 2)
    alone = decode_picture(data, "picture").array
    np.testing.assert_array_equal(decode_picture(icon(data, small, bits=24), "picture").array, alone)
    np.testing.assert_array_equal(decode_picture(icon(large, data, bits=24), "picture").array, seen)


def test_an_opaque_palette_in_an_apple_icon():
    data = png_files.write(RNG.integers(0, 4, (SIDE, SIDE, 1)), 2, PALETTE, [chunk(b"PLTE", RNG.bytes(12))])
    expected = decode_picture(data, "picture").array
    np.testing.assert_array_equal(decode_picture(apple_icon(data), "picture").array, expected)
    with Image.open(io.BytesIO(apple_icon(data))) as image:
        np.testing.assert_array_equal(from_pil(image).array, expected)


@pytest.mark.parametrize("depth", [1, 4, 8, 24])
def test_a_cursor_has_its_mask(depth):
    data, seen = bitmap(depth)
    for kind in (1, 2):
        np.testing.assert_array_equal(decode_picture(icon(data, kind=kind, bits=depth), "picture").array, seen)


def test_a_tga_that_begins_like_a_cursor():
    samples, buffer = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(samples).save(buffer, "TGA")
    data = buffer.getvalue()
    assert data[:4] == icons.CUR
    np.testing.assert_array_equal(decode_picture(data, "picture").array, samples)
    with_a_picture = data[:4] + b"\1" + data[5:]  # as if it had a picture
    assert icons.mended(with_a_picture) == with_a_picture
