"""Damaged and forged files: damage is always noticed, a forger gets an exception or a picture of the declared size."""

import contextlib
import dataclasses
import struct
import zlib
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_jax import codec as codec_module
from tcm_jax.codec import Codec
from tcm_jax.container import Container, pack, parse
from tcm_jax.entropy import range_coder
from tcm_jax.errors import TcmError

MAX_PIXELS = 128**2  # altered sizes are refused, or decode with the programs that are already compiled
HEADER = 40  # bytes: everything before the corrections
COUNTS = [150, pytest.param(2000, marks=pytest.mark.slow)]
EXTREMES = np.array([-(2**29), -(2**20), -1, 0, 1, 2**20, 2**29], np.int32)


@pytest.fixture(scope="module")
def codec(tiny_weights) -> Codec:
    """Native coder, as `auto` takes it: the ops of `tfc` are for trusted files."""
    return Codec(tiny_weights, coder="native", guard_band=0.01)


@pytest.fixture(scope="module")
def data(codec) -> bytes:
    """An intact file with corrections."""
    return codec.compress(photograph(70, 90))


def corruptions(data: bytes, count: int, seed: int):
    """`count` damaged files: truncations, header bytes, flipped bits, and stretches lost, doubled or overwritten."""
    rng = np.random.default_rng(seed)
    yielded = 0
    while yielded < count:
        kind = yielded % 8
        damaged = bytearray(data)
        at = int(rng.integers(len(data)))
        if kind == 0:
            damaged = damaged[: truncation(len(data), yielded // 8, at)]
        elif kind in (1, 2):
            damaged[yielded // 8 % HEADER] = rng.choice([0, 1, 2, 63, 64, 127, 128, 129, 255, rng.integers(256)])
        elif kind < 6:
            for bit in rng.integers(8 * len(data), size=rng.integers(1, 9)):
                damaged[bit // 8] ^= 1 << bit % 8
        else:
            stretch = rng.bytes(int(rng.integers(20))) if kind == 6 else damaged[at : at + 9] * int(rng.integers(2)) * 2
            damaged[at : at + int(rng.integers(20))] = stretch
        if damaged != data:
            yield bytes(damaged)
        yielded += 1


def truncation(length: int, i: int, anywhere: int) -> int:
    """Inside the header byte by byte, then by turns near the end and anywhere."""
    if i < HEADER:
        return i
    return length - 1 - i % 9 if i % 2 else anywhere


def sealed(data: bytes) -> bytes:
    """With the right checksum in its last four bytes, as a forger writes it."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def outcome(codec: Codec, data: bytes) -> str:
    """The name of the TcmError, or "picture"; fails for anything else, and for a picture of another size."""
    try:
        picture = codec.decompress(data, MAX_PIXELS)
    except TcmError as error:
        assert "\n" not in str(error)
        return type(error).__name__
    file = parse(data)
    assert picture.shape == (file.height, file.width, 3)
    assert picture.dtype == np.uint8
    return "picture"


@contextlib.contextmanager
def obliging_decoder():
    """Takes whatever is decoded, as if the forger had computed the checksums and the stream's end from it."""
    real = range_coder.decoder

    def endless(*args):
        decoder = real(*args)
        decoder.finish = lambda: None
        return decoder

    with (
        mock.patch.object(range_coder, "decoder", endless),
        mock.patch.object(Container, "checksum_matches", lambda *_: True),
    ):
        yield


@pytest.mark.parametrize("count", COUNTS)
def test_damage_is_always_noticed(codec, data, count):
    outcomes = Counter(outcome(codec, damaged) for damaged in corruptions(data, count, seed=0))
    assert outcomes["picture"] == 0
    assert outcomes["StreamError"] > 0.9 * count


@pytest.mark.parametrize("count", COUNTS)
def test_forged_files(codec, data, count):
    """The file's checksum is right, those of the symbols only where the forger left them alone."""
    outcomes = Counter(outcome(codec, sealed(damaged)) for damaged in corruptions(data, count, seed=1))
    assert {"StreamError", "ModelMismatchError", "ArithmeticMismatchError"} <= outcomes.keys()


@pytest.mark.parametrize("count", COUNTS)
def test_forged_files_with_every_checksum_right(codec, data, count):
    with obliging_decoder():
        outcomes = Counter(outcome(codec, sealed(damaged)) for damaged in corruptions(data, count, seed=2))
    assert outcomes["picture"] > 0.1 * count
    assert outcomes["StreamError"] > 0.1 * count


@pytest.mark.parametrize("count", COUNTS)
def test_random_latents_with_every_checksum_right(codec, data, count):
    file, rng = parse(data), np.random.default_rng(3)
    streams = [rng.bytes(int(rng.integers(2000))) for _ in range(count // 2)]
    streams += [bytes(int(a)) + b"\xff" * int(b) for a, b in rng.integers(1000, size=(count - len(streams), 2))]
    with obliging_decoder():
        outcomes = Counter(outcome(codec, pack(dataclasses.replace(file, stream=stream))) for stream in streams)
    assert outcomes["picture"] > 0
    assert outcomes["StreamError"] + outcomes["ArithmeticMismatchError"] > 0


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_extreme_symbols_in_a_perfect_file(codec, count):
    """Nothing is wrong with these files but that no picture has such latents: they reach infinities and NaN."""
    rng = np.random.default_rng(4)
    for _ in range(count):
        with mock.patch.object(codec_module, "_rounded", lambda residual: rng.choice(EXTREMES, residual.shape)):
            forged = codec.compress(photograph(3, 5))
        assert outcome(codec, forged) == "picture"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    edits=st.lists(st.tuples(st.integers(0, HEADER + 60), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 60),
    obliging=st.booleans(),
)
def test_edited_and_sealed(codec, data, edits, cut, obliging):
    damaged = bytearray(data)
    for position, value in edits:
        damaged[position] = value
    with obliging_decoder() if obliging else contextlib.nullcontext():
        outcome(codec, sealed(bytes(damaged[: len(damaged) - cut])))


@given(st.binary(max_size=100), st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_other_bytes(codec, content, with_magic):
    assert outcome(codec, (b"\x89TCM\1\0" if with_magic else b"") + content) == "StreamError"


def test_every_declared_size_within_the_limit(codec, data):
    file = parse(data)
    for width, height in ((1, 1), (128, 1), (128, 128), (89, 70)):
        resized = pack(dataclasses.replace(file, width=width, height=height))
        assert codec.decompress(resized, MAX_PIXELS).shape == (height, width, 3)
    for width, height in ((129, 1), (1, 129), (2**31 - 1, 2**31 - 1), (2**14, 2**14 + 1)):
        with pytest.raises(TcmError, match=f"{width}x{height} pixels"):
            codec.decompress(pack(dataclasses.replace(file, width=width, height=height)), MAX_PIXELS)
