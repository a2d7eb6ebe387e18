"""The range coder: bytes pinned as literals, an independent encoder as oracle, and what happens to damaged streams."""

import doctest
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from range_coder_oracle import BigIntegerEncoder, oracle, random_symbols, random_tables, straddling, zeros_dropped

from tcm_jax.entropy import coders
from tcm_jax.entropy.range_coder import MAX_OVERREAD
from tcm_jax.entropy.range_tables import RangeTables
from tcm_jax.errors import ConfigError, MissingExtraError, StreamError, WeightsError

LOOKUP = [-16, 0, 1, 65535, 65536, -16, 0, 65536, -16, 0, 9000, 21000, 21001, 40000, 65000, 65536, -16, 0, 30011, 65536]
OFFSETS = [-1, 0, -2, 7]

# (indexes, symbols, bytes), written by tensorflow-compression-ops 2.17.0. They must never change.
GOLDEN = {
    "empty": ([], [], ""),
    "every table, escapes": (
        [0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 1, 1, 1, 3, 3, 3, 3, 2, 0, 1],
        [0, 1, -1, 2, -2, -2, 2, 3, -3, 0, 0, -1, 5, 7, 8, 2**20, -(2**20), 2**29, -(2**29), 0],
        "fffe80013ffed400af22d75c40b4cc5cbb6613918b61aa0a5812a98e0000271ffffe2a7f63800009c7ffffed",
    ),
    "nothing to finish": ([2] * 9, [-2] * 9, "0000"),
    "finished by one byte": ([3], [8], "bb"),
    "finished by two bytes": ([0, 1, 2, 3], [1, 0, -1, 8], "ffffa456"),
    "carry through zeros": (
        [2] * 15,
        [0, -1, -2, -2, -2, 3, 2, 1, -1, 1, -2, 2, -2, 1, 3],
        "5208234700000001",
    ),
    "no carry, bytes of ones": ([2] * 13, [1, 0, -1, 1, 1, 1, 1, -2, -2, -1, -2, -1, -2], "69d0ffffff8b"),
    "finished before the carry is known": (
        [2] * 17,
        [1, 0, -1, 1, 1, 1, 1, -2, -2, -1, -2, -1, 2, 1, 2, 2, 2],
        "69d1",
    ),
    "carry into a zero byte at the end": (
        [2] * 20,
        [-2, -1, 2, 0, -1, -2, -2, -1, 2, 1, 2, -1, 1, -1, 1, 2, 2, -2, 2, -2],
        "098b3b",
    ),
}


def int32(values) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.fixture(scope="module")
def tables():
    return RangeTables(int32(LOOKUP), int32(OFFSETS))


def encode(tables, indexes, symbols, coder="native") -> bytes:
    encoder = coders.encoder(tables, coder)
    encoder.encode(int32(indexes), int32(symbols))
    return encoder.finish()


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(tables, name):
    indexes, symbols, expected = GOLDEN[name]
    assert encode(tables, indexes, symbols).hex() == expected
    decoder = coders.decoder(tables, bytes.fromhex(expected))
    assert decoder.decode(int32(indexes)).tolist() == symbols
    decoder.finish()


def test_the_example_of_the_docstring():
    assert doctest.testmod(coders).attempted == 8
    assert not doctest.testmod(coders).failed


def test_the_page_works_the_example_through():
    """Its table, row by row, from the oracle."""
    page = (Path(__file__).parents[1] / "docs" / "range_coder.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\|.*\| ([0-9A-F]+) \| ([0-9A-F]+) \|$", page, re.MULTILINE)
    coder = BigIntegerEncoder(RangeTables(int32([-16, 0, 0x4000, 0xC000, 0xF000, 0x10000, -16, 0, 0x6000, 0x10000]),
                                          int32([-1, 7])))  # fmt: skip
    rows = [(0, 1 << 32)]
    for lower, upper in [(0x4000, 0xC000), (0, 0x6000), (0xF000, 0x10000)]:
        coder.narrow(lower, upper, 16)
        rows.append((coder.low, coder.size))
    for bit in "0000100110":
        coder.narrow(int(bit), int(bit) + 1, 1)
    rows += [(coder.low >> 16, coder.size >> 16), (coder.low, coder.size)]
    assert shown == [(f"{base:X}", f"{size:X}") for base, size in rows]
    assert f"mid is {(coder.low >> 32) + 1:X}00000000," in page
    assert coder.finish() == oracle(coder.tables, [0, 1, 0], [0, 7, 20]) == bytes.fromhex("6d1d")
    assert f"the bytes `{coder.finish().hex(' ')}`" in page


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from([0, 1, 2, 3, 7, 60, 700, 5000]), min_size=1, max_size=4),
    length=st.integers(0, 120),
    cuts=st.lists(st.integers(0, 120), max_size=3),
    adversarial=st.booleans(),
)
@example(seed=0, sizes=[5000], length=54, cuts=[], adversarial=True)
def test_same_bytes_as_the_oracle_in_any_pieces(seed, sizes, length, cuts, adversarial):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, sizes)
    indexes, symbols = (straddling if adversarial else random_symbols)(rng, tables, length)
    encoder = coders.encoder(tables, "native")
    bounds = sorted(min(cut, length) for cut in [0, *cuts, length])
    pieces = list(itertools.pairwise(bounds))
    for a, b in pieces:
        encoder.encode(indexes[a:b], symbols[a:b])
    stream = encoder.finish()
    assert stream == oracle(tables, indexes, symbols)
    assert zeros_dropped(tables, indexes, symbols) < MAX_OVERREAD
    decoder = coders.decoder(tables, stream)
    for a, b in pieces:
        np.testing.assert_array_equal(decoder.decode(indexes[a:b]), symbols[a:b])
    decoder.finish()


def test_long_streams_shapes_and_read_only_input():
    rng = np.random.default_rng(7)
    tables = random_tables(rng, [3, 50, 65535])
    indexes, symbols = random_symbols(rng, tables, 70 * 50 * 40)  # more than one chunk
    indexes, symbols = indexes.reshape(70, 50, 40), symbols.reshape(70, 50, 40)
    indexes.flags.writeable = symbols.flags.writeable = False
    stream = encode(tables, indexes.transpose(1, 0, 2), symbols.transpose(1, 0, 2))
    decoder = coders.decoder(tables, memoryview(stream))
    decoded = decoder.decode(indexes.transpose(1, 0, 2))
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols.transpose(1, 0, 2))
    decoder.finish()


@pytest.mark.parametrize("wild", [0.0, 0.3])
def test_information_content_is_the_length(wild):
    rng = np.random.default_rng(8)
    tables = random_tables(rng, [1, 5, 500])
    indexes, symbols = random_symbols(rng, tables, 20000, wild)
    bits = coders.information_content(tables, indexes, symbols)
    # The coder rounds its range to integers, which moves probabilities by up to 2**-16 either way.
    assert 8 * len(encode(tables, indexes, symbols)) == pytest.approx(bits, rel=1e-4, abs=24)


def test_information_content_of_escapes_by_hand(tables):
    # 30011/65536 is regular; the escape takes the rest, then 2 floor(log2 gamma) + 1 bits and the sign.
    escape = 16 - np.log2(65536 - 30011)
    for symbol, bits in [(8, 2), (9, 4), (10, 4), (11, 6), (6, 2), (5, 4), (7 + 2**20 - 1, 40), (7 + 2**20, 42)]:
        assert coders.information_content(tables, int32([3]), int32([symbol])) == pytest.approx(escape + bits)
    assert coders.information_content(tables, int32([]), int32([])) == 0


@pytest.mark.parametrize(
    ("indexes", "symbols"),
    [([4], [0]), ([-1], [0]), ([0, 0], [0]), ([0], [2**29 + 1]), ([0], [-(2**29) - 1]), ([0.0], [0]), ([0], [1.5])],
)
def test_wrong_input_is_a_value_error(tables, indexes, symbols):
    indexes, symbols = (np.array(a, np.int32 if isinstance(a[0], int) else None) for a in (indexes, symbols))
    with pytest.raises(ValueError):
        coders.encoder(tables, "native").encode(indexes, symbols)
    with pytest.raises(ValueError):
        coders.information_content(tables, indexes, symbols)


def test_decoding_with_a_wrong_index_is_a_value_error(tables):
    with pytest.raises(ValueError):
        coders.decoder(tables, b"abc").decode(int32([4]))


def test_escape_of_zeros_gives_up(tables):
    with pytest.raises(StreamError, match="impossible escape"):
        coders.decoder(tables, b"\0" * 1000).decode(int32([1]))


@pytest.mark.parametrize(("ones", "valid"), [(29, True), (30, False), (31, False), (32, False)])
def test_longest_escape(tables, ones, valid):
    """Table 1 has nothing but an escape of probability 1, so the stream is the bits of the code themselves."""
    bits = ("0" * ones + "1" + "0" * ones + "0").ljust(96, "0")
    data = int(bits, 2).to_bytes(12, "big")
    decoder = coders.decoder(tables, data)
    if valid:
        assert decoder.decode(int32([1])).tolist() == [2**29 - 1]
    else:
        with pytest.raises(StreamError):
            decoder.decode(int32([1]))


@pytest.mark.parametrize("kept", [0, 1, 100, 1000])
def test_a_short_stream_of_a_huge_picture_fails_soon(kept):
    rng = np.random.default_rng(9)
    tables = random_tables(rng, [20] * 4)
    stream = encode(tables, *random_symbols(rng, tables, 2000))[:kept]
    decoder = coders.decoder(tables, stream)
    with pytest.raises(StreamError, match="end early"):
        for _ in range(50):  # a picture of 10,000 symbols; the stream is out of bytes long before
            decoder.decode(rng.integers(0, 4, 200, dtype=np.int32))


def test_leftover_bytes_are_an_error(tables):
    stream = encode(tables, [0, 2, 2, 3], [0, 1, 2, 7])
    for damaged in (stream + b"\1", stream + b"garbage", bytes([stream[0] ^ 1]) + stream[1:]):
        decoder = coders.decoder(tables, damaged)
        with pytest.raises(StreamError):
            decoder.decode(int32([0, 2, 2, 3]))
            decoder.finish()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.binary(max_size=60), seed=st.integers(0, 2**16))
def test_any_bytes_decode_or_raise(data, seed):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, [0, 2, 30])
    decoder = coders.decoder(tables, data)
    try:
        symbols = decoder.decode(rng.integers(0, 3, 300, dtype=np.int32))
        decoder.finish()
    except StreamError:
        return
    assert np.all(np.abs(symbols) <= 2**29)


@pytest.mark.parametrize(
    ("lookup", "offsets"),
    [
        ([], []),
        ([0, 65536], [0]),
        ([16, 0, 65536], [0]),
        ([-15, 0, 65536], [0]),
        ([-16, 0], [0]),
        ([-16, 1, 65536], [0]),
        ([-16, 0, 65535], [0]),
        ([-16, 0, 5, 5, 65536], [0]),
        ([-16, 0, 9, 5, 65536], [0]),
        ([-16, 0, 65536, 65537], [0]),
        ([-16, 0, 65536, 65536], [0]),
        ([-16, 0, 65536, -3, 0, 65536], [0, 0]),
        ([-16, 0, 65536, -16], [0, 0]),
        ([-16, 0, 65536], []),
        ([-16, 0, 65536], [0, 0]),
        ([-16, 0, 65536], [2**20 + 1]),
        ([[-16, 0, 65536]], [0]),
    ],
)
def test_malformed_tables_are_refused(lookup, offsets):
    with pytest.raises(WeightsError):
        RangeTables(int32(lookup), int32(offsets))


def test_tables_of_another_type_are_refused():
    with pytest.raises(WeightsError, match="int32"):
        RangeTables(np.array([-16, 0, 65536], np.int64), int32([0]))


def test_tables_are_read_only_and_know_their_size(tables):
    assert len(tables) == 4
    assert tables.sizes.tolist() == [2, 0, 5, 1]
    with pytest.raises(ValueError):
        tables.lookup[0] = 1


def test_unknown_coder(tables):
    for make in (coders.encoder, lambda t, coder: coders.decoder(t, b"", coder)):
        with pytest.raises(ConfigError, match="native"):
            make(tables, coder="rans")


def test_missing_ops_name_the_install_command(tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_compression_ops", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tcm_jax\[tfc\]"'):
        coders.encoder(tables, "tfc")


def test_importing_is_light():
    code = "import sys, tcm_jax.entropy.coders; sys.exit(bool({'numba', 'jax', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
