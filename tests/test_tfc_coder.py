"""The two coders write the same bytes and read each other's streams (runs where tensorflow-compression-ops is)."""

import itertools

import numpy as np
import pytest
from range_coder_oracle import random_symbols, random_tables, straddling
from test_range_coder import GOLDEN, LOOKUP, OFFSETS, encode, int32

from tcm_jax.entropy import coders
from tcm_jax.errors import StreamError

pytest.importorskip("tensorflow_compression_ops")


def trained_like(rng: np.random.Generator):
    """256 tables, as many and as wide as those of a model."""
    return random_tables(rng, [*np.geomspace(3, 1775, 64).astype(int), *rng.integers(1, 200, 192)])


def check_case(rng: np.random.Generator, tables, length: int, calls: int, adversarial: bool) -> None:
    make = straddling if adversarial else random_symbols
    indexes, symbols = make(rng, tables, length)
    cuts = [0, *sorted(rng.integers(0, length + 1, calls - 1).tolist()), length]
    encoders = [coders.encoder(tables, coder) for coder in ("native", "tfc")]
    for a, b in itertools.pairwise(cuts):
        for encoder in encoders:
            encoder.encode(indexes[a:b], symbols[a:b])
    native, tfc = (encoder.finish() for encoder in encoders)
    assert native == tfc
    for coder in ("native", "tfc"):
        decoder = coders.decoder(tables, native, coder)
        for a, b in itertools.pairwise(cuts):
            np.testing.assert_array_equal(decoder.decode(indexes[a:b]), symbols[a:b])
        decoder.finish()


def check_cases(count: int, seed: int, longest: int) -> None:
    rng = np.random.default_rng(seed)
    tables, used = trained_like(rng), 0
    for case in range(count):
        if case % 100 == 99:
            tables = trained_like(rng)
        adversarial = case % 10 == 0
        length = int(rng.integers(0, 60 if adversarial else 300))
        if case % 250 == 249:
            length, adversarial = int(rng.integers(0, longest + 1)), False
        used += length
        check_case(rng, tables, length, int(rng.integers(1, 5)), adversarial)
    assert used > 50 * count


def test_same_bytes():
    check_cases(300, seed=1, longest=20_000)


@pytest.mark.slow
def test_same_bytes_ten_thousand_times():
    check_cases(10_000, seed=2, longest=100_000)
    rng = np.random.default_rng(3)
    check_case(rng, trained_like(rng), 100_000, 6, adversarial=False)
    check_case(rng, trained_like(rng), 0, 1, adversarial=False)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name):
    tables = coders.RangeTables(int32(LOOKUP), int32(OFFSETS))
    indexes, symbols, expected = GOLDEN[name]
    assert encode(tables, indexes, symbols, "tfc").hex() == expected
    assert encode(tables, indexes, symbols, "auto").hex() == expected


def test_every_table_and_every_symbol():
    tables = random_tables(np.random.default_rng(4), [0, 1, 2, 31, 700])
    indexes = int32(np.repeat(np.arange(5), tables.sizes + 4))
    symbols = int32(
        np.concatenate([low + np.arange(-2, n + 2) for low, n in zip(tables.offsets, tables.sizes, strict=True)])
    )
    stream = encode(tables, indexes, symbols)
    assert stream == encode(tables, indexes, symbols, "tfc")
    np.testing.assert_array_equal(coders.decoder(tables, stream, "tfc").decode(indexes), symbols)


def test_unfinished_stream_is_an_error():
    tables = coders.RangeTables(int32(LOOKUP), int32(OFFSETS))
    decoder = coders.decoder(tables, encode(tables, [2] * 50, [1] * 50), "tfc")
    decoder.decode(int32([2] * 10))
    with pytest.raises(StreamError):
        decoder.finish()
