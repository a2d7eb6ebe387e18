"""The .tcm container: its bytes, every kind of damage, and forged files whose checksums are right."""

import dataclasses
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_files import pack_listed

from tcm_jax.codec.container import Container, pack, parse, section_sizes
from tcm_jax.codec.old_corrections import listed_positions
from tcm_jax.codec.streams import symbol_checksum
from tcm_jax.errors import StreamError

NONE = (np.empty(0, np.int32),) * 5
CRCS = tuple(0x9E3779B1 * i % 2**32 for i in range(1, 7))


def int32(*values) -> np.ndarray:
    return np.array(values, np.int32)


def container(**changes) -> Container:
    fields = {"width": 768, "height": 512, "model_id": b"\1\2\3\4\5\6\7\x08", "guard_band": 1e-5,
              "corrections": (int32(0, 1, 4000), int32(), int32(24575), int32(), int32(7)),
              "checksums": CRCS, "stream": bytes(range(200))}  # fmt: skip
    return Container(**(fields | changes))


def sealed(body: bytes) -> bytes:
    """A forger's file: any body with the right checksum."""
    return body + struct.pack("<I", zlib.crc32(body))


def forged(sections: bytes, size: bytes = b"\x10\x10", band: float = 0.0) -> bytes:
    return sealed(b"\x89TCM\1\0" + size + b"modelid8" + struct.pack("<f", band) + sections)


def section(tag: int, payload: bytes) -> bytes:
    assert len(payload) < 128
    return bytes([tag, len(payload)]) + payload


CHECKS = section(1, struct.pack("<HI", 1, 2))  # z and one slice
LATENTS = section(3, b"xyz")


def assert_equal(a: Container, b: Container) -> None:
    fields = {field.name for field in dataclasses.fields(Container)} - {"corrections"}
    for field in fields:
        assert getattr(a, field) == getattr(b, field)
    for x, y in zip(a.corrections, b.corrections, strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype == np.int32


def test_golden_bytes():
    """Format version 1 never changes: what was written decodes for ever."""
    data = pack_listed(container(stream=b"latents"))
    header, checksums = "8954434d0100800680040102030405060708acc52737010eb179", "62f3136dc4e6756026da4cb5020b"
    corrections, rest = "22a004001e7a9a7fff427003076c", "6174656e7473629787a9"
    assert data.hex() == header + checksums + corrections + rest
    assert_equal(parse(data), container(stream=b"latents"))
    sided = pack(container(stream=b"latents", corrections=(), sides=b"sides"))
    head, sections = header[:10] + "08" + header[12:] + checksums[:-4], "02057369646573" + "03076c6174656e7473"
    assert sided.hex() == head + sections + "fc1864a6"
    assert_equal(parse(sided), container(stream=b"latents", corrections=(), sides=b"sides"))


def test_fixed_cost():
    small = container(width=1, height=1, corrections=(), stream=b"")
    assert len(pack(small)) == 42
    assert len(pack(container(corrections=()))) == 45 + 200
    assert len(pack_listed(container(corrections=(int32(5), *NONE[1:])))) <= 45 + 200 + 6


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    width=st.integers(1, 20000), height=st.integers(1, 13000), band=st.floats(0, 15 / 512, width=32),
    corrections=st.lists(st.sets(st.integers(0, 16383), max_size=40), max_size=5),
    crcs=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6), stream=st.binary(max_size=300),
    extra=st.sampled_from([bytes, bytearray, memoryview]), quality=st.none() | st.integers(100, 10_000),
    tile=st.sampled_from([0, 512, 1024, 8192]), grey=st.booleans(),
    extras=st.lists(st.binary(max_size=200), min_size=3, max_size=3), sides=st.none() | st.binary(max_size=200),
)  # fmt: skip
def test_round_trip(width, height, band, corrections, crcs, stream, extra, quality, tile, grey, extras, sides):
    listed, slices = corrections if sides is None else (), len(corrections)
    corrections = tuple(int32(*sorted(positions)) for positions in corrections) if any(listed) else ()
    made = container(width=width, height=height, guard_band=band, corrections=corrections,
                     checksums=tuple(crcs[: slices + 1]), stream=stream, quality=quality, tile=tile,
                     grey=grey, alpha=extras[0], icc=extras[1], exif=extras[2], sides=sides)  # fmt: skip
    data = pack_listed(made)
    assert_equal(parse(extra(data)), made)
    assert sum(section_sizes(data).values()) == len(data)


def test_corrections_cost_about_their_information():
    rng = np.random.default_rng(0)
    symbols, listed = 5_000_000, 1000
    positions = np.sort(rng.choice(symbols, listed, replace=False)).astype(np.int32)
    made = container(width=8000, height=8000, corrections=(positions, *NONE[1:]))
    size = len(pack_listed(made)) - len(pack(container(width=8000, height=8000, corrections=())))
    assert 8 * size / listed < np.log2(np.e * symbols / listed) + 0.2
    np.testing.assert_array_equal(parse(pack_listed(made)).corrections[0], positions)


def test_positions_outside_the_slice_are_refused():
    assert listed_positions(int32(3, 99), 100).tolist() == [3, 99]
    assert listed_positions(int32(), 0).size == 0
    with pytest.raises(StreamError, match="outside the picture"):
        listed_positions(int32(3, 99), 99)


def test_checksums_keep_16_bits_but_the_last():
    parsed = parse(pack_listed(container()))
    for step, crc in enumerate(CRCS):
        assert parsed.checksum_matches(step, crc)
        assert not parsed.checksum_matches(step, crc ^ 1)
        assert parsed.checksum_matches(step, crc ^ 0x10000) == (step < 5)


def test_symbol_checksum_is_crc32_of_little_endian_bytes():
    symbols = int32(1, -2, 2**20, 0).reshape(2, 2)
    expected = zlib.crc32(struct.pack("<4i", 1, -2, 2**20, 0))
    assert symbol_checksum(symbols) == expected
    assert symbol_checksum(symbols[:, ::-1]) == zlib.crc32(struct.pack("<4i", -2, 1, 0, 2**20))
    assert symbol_checksum(symbols[1:], symbol_checksum(symbols[:1])) == expected


def test_lists_of_corrections_are_no_longer_written():
    with pytest.raises(ValueError, match="no longer written"):
        pack(container())


def test_slices_and_checksums_must_agree():
    with pytest.raises(ValueError):
        container(corrections=NONE[1:])


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" * 9, b"\xff\xd8\xff\xe0" * 20, b"TCM", bytes(100)])
def test_another_file_is_not_a_tcm_file(data):
    with pytest.raises(StreamError, match=r"not a \.tcm file"):
        parse(data)


def test_every_truncation_is_called_so():
    data = pack_listed(container())
    for length in range(1, len(data)):
        with pytest.raises(StreamError, match="truncated"):
            parse(data[:length])


def test_every_flipped_bit_is_noticed():
    data = pack_listed(container())
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(StreamError):
            parse(bytes(damaged))
    with pytest.raises(StreamError, match="altered: its checksum"):
        parse(data[:100] + b"?" + data[101:])
    with pytest.raises(StreamError, match="altered: its checksum"):
        parse(data + b"?")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89TCM\2" + bytes(60), "version 2"),
        (sealed(b"\x89TCM\1\x40" + bytes(60)), "features"),
        (sealed(b"\x89TCM\1\1\1\1" + bytes(60)), "quality"),
        (forged(CHECKS + LATENTS, size=b"\0\x10"), "0x16"),
        (forged(CHECKS + LATENTS, size=b"\x10\0"), "16x0"),
        (forged(CHECKS + LATENTS, size=b"\x80\x80\x01\x81\x80\x01"), "over the limit"),
        (forged(CHECKS + LATENTS, size=b"\xff\xff\xff\xff\x7f\x01"), "declares"),
        (forged(CHECKS + LATENTS, size=b"\x80" * 6), "too long"),
        (forged(CHECKS + LATENTS, band=float("nan")), "guard band"),
        (forged(CHECKS + LATENTS, band=-1e-5), "guard band"),
        (forged(CHECKS + LATENTS, band=0.1), "guard band"),
        (forged(CHECKS + section(32, b"")), "section 32 unknown"),
        (forged(CHECKS + LATENTS + section(9, b"xmp")), "section 9 unknown"),
        (forged(CHECKS + LATENTS + section(5, b"")), "metadata is empty"),
        (sealed(b"\x89TCM\1\2" + b"\x10\x10" + bytes(12) + b"\3" + CHECKS + LATENTS), "tiles is out of range"),
        (forged(section(0, b"") + CHECKS + LATENTS), "section 0 unknown"),
        (forged(LATENTS + CHECKS), "out of order"),
        (forged(CHECKS + CHECKS + LATENTS), "out of order"),
        (forged(CHECKS + section(2, b"\xf8")), "lacks"),
        (forged(LATENTS + CHECKS[:5]), "truncated"),
        (forged(section(1, b"12345") + LATENTS), "impossible length"),
        (forged(section(1, b"123") + LATENTS), "impossible length"),
        (forged(CHECKS + b"\3\xff\xff\xff\xff\x7f"), "truncated"),
        (forged(CHECKS + LATENTS + b"\3"), "truncated"),
    ],
)
def test_forged_headers(data, message):
    with pytest.raises(StreamError, match=message):
        parse(data)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ("", "end early"),
        ("00000000", "end early"),
        ("1" + "1" * 7, "end late"),
        ("1" + "0" * 15, "end late"),
        ("010" + "00000" + "0" * 40, "end early"),
        ("010" + "11111" + "1" + "1" * 31, "outside the picture"),
        ("010" + "00000" + "0" * 16384 + "1", "outside the picture"),
        ("0" * 30 + "1" * 31 + "00000" + "1" * 200, "end early"),
        ("0" * 900 + "1" * 950, "end early"),
    ],
)
def test_forged_corrections(bits, message):
    size = -(-len(bits) // 8)
    payload = int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")
    length = bytes([size & 127 | 128, size >> 7])
    with pytest.raises(StreamError, match=message):
        parse(forged(CHECKS + b"\2" + length + payload + LATENTS))


def test_the_limit_on_pixels_counts_the_padding():
    data = pack(container(width=129, height=128, corrections=()))
    assert parse(data, max_pixels=2 * 128**2).width == 129
    with pytest.raises(StreamError, match="129x128"):
        parse(data, max_pixels=2 * 128**2 - 1)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    edits=st.lists(st.tuples(st.integers(4, 90), st.integers(0, 255)), min_size=1, max_size=4), cut=st.integers(0, 90)
)
def test_a_forger_gets_an_error_or_what_was_declared(edits, cut):
    body = bytearray(pack_listed(container())[:-4])
    for position, value in edits:
        body[position % len(body)] = value
    try:
        parsed = parse(sealed(bytes(body[: len(body) - cut])))
    except StreamError:
        return
    assert parsed.width * parsed.height <= 2**28
    assert all(np.all(np.diff(positions) > 0) for positions in parsed.corrections)


def test_lengths_are_not_believed():
    """A header of a few bytes that declares two gigabytes allocates next to nothing."""
    tracemalloc.start()
    for data in (forged(CHECKS + b"\3\xff\xff\xff\xff\x07"), forged(CHECKS + section(2, b"\0\0\0\1" + b"\xff" * 90))):
        with pytest.raises(StreamError):
            parse(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
