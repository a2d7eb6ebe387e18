"""Bits that are found by their keys: what was packed is read, in about a bit each, and never other bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_jax.codec.ribbon import pack_sides, read_sides


def mixed(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def read_one(packed: bytes, key: int) -> bool:
    """As docs/format.md has it."""
    span = min(len(packed), 8)
    first = (mixed(2 * key) >> 32) * (len(packed) - span + 1) >> 32
    number = int.from_bytes(packed[first : first + span], "little")
    return bool((number & mixed(2 * key + 1) >> 64 - 8 * span).bit_count() & 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(st.integers(0, 2**40), st.booleans(), max_size=150), st.integers(0, 2**32))
def test_what_was_packed_is_read(sides, seed):
    keys, upper = np.array([*sides], np.int64), np.array([*sides.values()], bool)
    packed = pack_sides(keys, upper)
    assert len(packed) <= keys.size // 8 + 4
    order = np.random.default_rng(seed).permutation(keys.size)
    np.testing.assert_array_equal(read_sides(packed, keys[order]), upper[order])
    assert pack_sides(keys, upper) == packed
    others = np.random.default_rng(seed).integers(0, 2**40, 50)
    if packed:
        assert read_sides(packed, others).tolist() == [read_one(packed, int(key)) for key in others]
    assert not read_sides(b"", others).any()


@pytest.mark.parametrize(("count", "most"), [(200, 1.08), (1_000, 1.05), (20_000, 1.08)])
def test_a_key_costs_about_a_bit(count, most):
    rng = np.random.default_rng(count)
    keys, upper = np.sort(rng.choice(1000 * count, count, replace=False)), rng.random(count) < 0.5
    packed = pack_sides(keys, upper)
    np.testing.assert_array_equal(read_sides(packed, keys), upper)
    assert 8 * len(packed) < most * count


def test_a_key_has_one_side():
    with pytest.raises(ValueError, match="not distinct"):
        pack_sides(np.array([3, 4, 3]), np.array([True, True, False]))


def test_golden_bytes():
    """What was written is read for ever."""
    keys = np.arange(100) ** 3
    assert pack_sides(keys[:10], keys[:10] % 5 < 2).hex() == "ac00"
    assert pack_sides(keys, keys % 5 < 2).hex() == "5f9d74807dd9d8216b958fb91100"
