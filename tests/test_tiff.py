"""TIFFs whose samples Pillow misreads: separate planes, and grey whose lowest samples are white."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from tcm_jax.images.pictures import decode_picture

RNG = np.random.RandomState(0)
RGB = RNG.randint(0, 256, (12, 16, 3), dtype=np.uint8)
ALPHA = RGB[..., 1] | 1
PLAIN, DEFLATE = 1, 8


def separate_planes(
    planes: Sequence[np.ndarray], order: str = "<", extra: int | None = None, compression: int = PLAIN,
    photometric: int = 1, big: bool = False,
) -> bytes:  # fmt: skip
    """A TIFF or BigTIFF file of planes [H, W] of 8 or 16 bits, each in strips of its own, to be turned (6)."""
    rows, packed = 2, {PLAIN: lambda strip: strip, DEFLATE: zlib.compress}[compression]
    word, kind, start, head = ("Q", 16, 16, "HHHQ") if big else ("I", 4, 8, "HI")
    planes = [plane.astype(plane.dtype.newbyteorder(order)) for plane in planes]
    strips = [packed(plane[top : top + rows].tobytes()) for plane in planes for top in range(0, len(plane), rows)]
    offsets = np.cumsum([start, *map(len, strips)]).tolist()
    height, width = planes[0].shape
    entries = {256: [width], 257: [height], 258: [8 * planes[0].itemsize] * len(planes), 259: [compression],
               262: [photometric], 273: offsets[:-1], 274: [6], 277: [len(planes)], 278: [rows],
               279: [*map(len, strips)], 284: [2]} | ({} if extra is None else {338: [extra]})  # fmt: skip
    directory, rest = struct.pack(order + ("Q" if big else "H"), len(entries)), b""
    beyond = offsets[-1] + len(directory) + (20 if big else 12) * len(entries) + struct.calcsize(order + word)
    for tag, values in entries.items():
        data = struct.pack(f"{order}{len(values)}{word}", *values)
        if len(values) > 1:
            data, rest = struct.pack(order + word, beyond + len(rest)), rest + data
        directory += struct.pack(f"{order}HH{word}", tag, kind, len(values)) + data
    version = (43, 8, 0) if big else (42,)
    first = (b"II" if order == "<" else b"MM") + struct.pack(order + head, *version, offsets[-1])
    return first + b"".join(strips) + directory + bytes(8 if big else 4) + rest


def read(file: bytes) -> np.ndarray:
    """What is read of a file, turned back."""
    return np.rot90(decode_picture(file, "picture").array)


# Pillow opens no BigTIFF of the other order.
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("compression", [PLAIN, DEFLATE])
def test_separate_planes_of_grey_and_alpha(order, big, compression):
    file = separate_planes((RGB[..., 0], ALPHA), order, 2, compression, big=big)
    np.testing.assert_array_equal(read(file), np.dstack([RGB[..., 0], ALPHA]))


@pytest.mark.parametrize("compression", [PLAIN, DEFLATE])
def test_separate_planes_of_grey_that_alpha_was_multiplied_with(compression):
    grey = RGB[..., 0]
    premultiplied = (grey.astype(np.uint16) * ALPHA // 255).astype(np.uint8)
    file = separate_planes((premultiplied, ALPHA), "<", 1, compression)
    try:
        Image.open(io.BytesIO(file))
    except UnidentifiedImageError:
        pytest.skip("this Pillow reads no such file")
    array = read(file)
    np.testing.assert_array_equal(array[..., 1], ALPHA)
    dense = ALPHA > 100
    np.testing.assert_allclose(array[..., 0][dense].astype(int), grey[dense], atol=3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [PLAIN, DEFLATE])
def test_separate_planes_of_16_bits(order, compression):
    """The high bytes are read, as of samples that stand together."""
    samples = RNG.randint(0, 1 << 16, (12, 16, 4)).astype(np.uint16)
    planes = [samples[..., i] for i in range(4)]
    for count, extra in ((3, None), (4, 2)):
        file = separate_planes(planes[:count], order, extra, compression, photometric=2)
        np.testing.assert_array_equal(read(file), samples[..., :count] >> 8)
    ink = [plane | 0xFF00 for plane in planes[:3]]
    black = separate_planes([*ink, planes[3]], order, None, compression, photometric=5)
    assert read(black).max() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [PLAIN, DEFLATE])
def test_separate_planes_of_colours_that_alpha_was_multiplied_with(dtype, compression):
    scale = np.iinfo(dtype).max // 255
    colours = (RGB.astype(np.uint32) * ALPHA[..., None] // 255 * scale).astype(dtype)
    planes = [*np.moveaxis(colours, 2, 0), (ALPHA.astype(np.uint32) * scale).astype(dtype)]
    array = read(separate_planes(planes, "<", 1, compression, photometric=2))
    np.testing.assert_array_equal(array[..., 3], ALPHA)
    dense = ALPHA > 100
    np.testing.assert_allclose(array[..., :3][dense].astype(int), RGB[dense], atol=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_grey_whose_lowest_samples_are_white(dtype, compression):
    full = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    buffer = io.BytesIO()
    samples = (RGB[..., 0] * (full / 255)).astype(dtype)
    Image.fromarray(samples).save(buffer, "TIFF", compression=compression)
    file = bytearray(buffer.getvalue())
    entry = file.index(struct.pack("<HHI", 262, 3, 1))
    assert file[entry + 8] == 1
    file[entry + 8] = 0
    np.testing.assert_array_equal(decode_picture(bytes(file), "picture").array, 255 - RGB[..., 0])
