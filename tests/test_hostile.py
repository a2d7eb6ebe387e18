"""Damaged and forged files: damage is always noticed, a forger gets an exception or a picture of the declared size."""

import contextlib
import dataclasses
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from conftest import photograph
from fuzz.mutations import HEADER, damage, obliging_decoder, outcome, sealed
from fuzz.run import fuzz
from golden_files import FILES
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_jax.codec import Codec, slice_encoder
from tcm_jax.codec.container import pack, parse
from tcm_jax.errors import TcmError

MAX_PIXELS = 128**2  # altered sizes are refused, or decode with the programs that are already compiled
COUNTS = [150, pytest.param(2000, marks=pytest.mark.slow)]
EXTREMES = np.array([-(2**29), -(2**20), -1, 0, 1, 2**20, 2**29], np.int32)


@pytest.fixture(scope="module")
def codec(tiny_weights) -> Codec:
    """Native coder, as `auto` takes it: the ops of `tfc` are for trusted files."""
    return Codec(tiny_weights, coder="native", guard_band=0.01)


@pytest.fixture(scope="module")
def data(codec) -> bytes:
    """An intact file with sides."""
    return codec.compress(photograph(70, 90))


def corruptions(data: bytes, count: int, seed: int):
    """`count` damaged files."""
    rng = np.random.default_rng(seed)
    return (damaged for i in range(count) if (damaged := damage(data, i, rng)) != data)


@pytest.mark.parametrize("count", COUNTS)
def test_damage_is_always_noticed(codec, data, count):
    outcomes = Counter(outcome(codec, damaged, MAX_PIXELS) for damaged in corruptions(data, count, seed=0))
    assert outcomes["picture"] == 0
    assert outcomes["StreamError"] > 0.9 * count


@pytest.mark.parametrize("count", COUNTS)
def test_forged_files(codec, data, count):
    """The file's checksum is right, those of the symbols only where the forger left them alone."""
    outcomes = Counter(outcome(codec, sealed(damaged), MAX_PIXELS) for damaged in corruptions(data, count, seed=1))
    assert {"StreamError", "ModelMismatchError", "ArithmeticMismatchError"} <= outcomes.keys()


@pytest.mark.parametrize("count", COUNTS)
def test_forged_files_with_every_checksum_right(codec, data, count):
    with obliging_decoder():
        outcomes = Counter(outcome(codec, sealed(damaged), MAX_PIXELS) for damaged in corruptions(data, count, seed=2))
    assert outcomes["picture"] > 0.1 * count
    assert outcomes["StreamError"] > 0.1 * count


@pytest.mark.parametrize("count", COUNTS)
def test_random_latents_with_every_checksum_right(codec, data, count):
    file, rng = parse(data), np.random.default_rng(3)
    streams = [rng.bytes(int(rng.integers(2000))) for _ in range(count // 2)]
    streams += [bytes(int(a)) + b"\xff" * int(b) for a, b in rng.integers(1000, size=(count - len(streams), 2))]
    with obliging_decoder():
        outcomes = Counter(
            outcome(codec, pack(dataclasses.replace(file, stream=stream)), MAX_PIXELS) for stream in streams
        )
    assert outcomes["picture"] > 0
    assert outcomes["StreamError"] + outcomes["ArithmeticMismatchError"] > 0


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_extreme_symbols_in_a_perfect_file(codec, count):
    """Nothing is wrong with these files but that no picture has such latents: they reach infinities and NaN."""
    rng = np.random.default_rng(4)
    for _ in range(count):
        with mock.patch.object(slice_encoder, "_rounded", lambda residual: rng.choice(EXTREMES, residual.shape)):
            forged = codec.compress(photograph(3, 5))
        assert outcome(codec, forged, MAX_PIXELS) == "picture"


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
        outcome(codec, sealed(bytes(damaged[: len(damaged) - cut])), MAX_PIXELS)


@given(st.binary(max_size=100), st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_other_bytes(codec, content, with_magic):
    assert outcome(codec, (b"\x89TCM\1\0" if with_magic else b"") + content, MAX_PIXELS) == "StreamError"


def test_every_declared_size_within_the_limit(codec, data):
    file = parse(data)
    for width, height in ((1, 1), (128, 1), (128, 128), (89, 70)):
        resized = pack(dataclasses.replace(file, width=width, height=height))
        assert codec.decompress(resized, MAX_PIXELS).shape == (height, width, 3)
    for width, height in ((129, 1), (1, 129), (2**31 - 1, 2**31 - 1), (2**14, 2**14 + 1)):
        with pytest.raises(TcmError, match=f"{width}x{height} pixels"):
            codec.decompress(pack(dataclasses.replace(file, width=width, height=height)), MAX_PIXELS)


@pytest.mark.parametrize(
    ("count", "names"),
    [(600, FILES.keys() - {"tiles", "all"}), pytest.param(8_000, FILES, marks=pytest.mark.slow)],
    ids=["small", "all"],
)
def test_mutations_of_golden_files(count, names):
    """Short runs; docs/hostile.md has the long one. Altered sizes of the large files have to be compiled."""
    result = fuzz(count, seed=2, names=sorted(names))
    assert result["problems"] == []
    assert result["outcomes"]["damaged"].keys() <= {"StreamError", "ModelMismatchError"}
    assert result["outcomes"]["forged"]["picture"] > 0.05 * count
