"""Alpha planes and metadata come back exactly, and nobody unpacks more than was declared."""

import lzma
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tcm_jax.codec.alpha_and_metadata import pack_metadata, pack_plane, unpack_metadata, unpack_plane
from tcm_jax.errors import ImageError, StreamError
from tcm_jax.images.limits import MAX_METADATA

SOFT = np.clip(np.hypot(*np.mgrid[-40:40, -50:50]) * 9 - 100, 0, 255).astype(np.uint8)
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 6}]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_planes_round_trip(plane):
    np.testing.assert_array_equal(unpack_plane(pack_plane(plane), *plane.shape), plane)


def test_every_filter():
    noise = np.random.default_rng(0).integers(0, 2, SOFT.shape) * 255
    for filters, plane in enumerate((noise, noise.cumsum(1), noise.cumsum(0), noise.cumsum(0).cumsum(1))):
        packed = pack_plane(plane.astype(np.uint8))
        assert packed[0] == filters
        np.testing.assert_array_equal(unpack_plane(packed, *SOFT.shape), plane.astype(np.uint8))


def test_masks_are_small():
    assert len(pack_plane(np.full((512, 768), 255, np.uint8))) < 150
    assert len(pack_plane(SOFT)) < 0.25 * SOFT.size


GOOD = pack_plane(SOFT)


@pytest.mark.parametrize(
    "data",
    [b"", b"\4" + GOOD[1:], GOOD[:-1], GOOD + b"?", GOOD[:1], pack_plane(SOFT[1:]), GOOD[:1] + b"\xff" * 90],
)
def test_altered_planes_are_refused(data):
    with pytest.raises(StreamError, match="altered: its alpha"):
        unpack_plane(data, *SOFT.shape)


def test_bombs_are_not_unpacked():
    bomb = lzma.compress(bytes(100_000_000), lzma.FORMAT_RAW, filters=_LZMA)
    metadata = zlib.compress(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(StreamError, match="not of the picture's size"):
        unpack_plane(b"\0" + bomb, 10, 10)
    with pytest.raises(StreamError, match="too long"):
        unpack_metadata(metadata, "EXIF")
    assert tracemalloc.get_traced_memory()[1] < 3 * MAX_METADATA
    tracemalloc.stop()


def test_metadata():
    data = bytes(range(256)) * 9
    assert unpack_metadata(pack_metadata(data, "EXIF"), "EXIF") == data
    most = bytes(MAX_METADATA)
    assert unpack_metadata(pack_metadata(most, "EXIF"), "EXIF") == most
    with pytest.raises(ImageError, match=r"EXIF has 4,194,305 bytes.*--strip"):
        pack_metadata(most + b"?", "EXIF")
    for altered in (b"", b"?", pack_metadata(data, "EXIF")[:-1], pack_metadata(data, "EXIF") + b"?"):
        with pytest.raises(StreamError, match="EXIF"):
            unpack_metadata(altered, "EXIF")
