"""The residual layer: every picture comes back, exactly or within a bound, and altered layers are refused."""

import zlib

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tcm_jax.codec.residual import plan
from tcm_jax.codec.residual.fit import code
from tcm_jax.codec.residual.layer import (
    PATTERNS,
    PREDICTED,
    STORED,
    ChecksumError,
    decode_layer,
    encode_layer,
    step_of,
)
from tcm_jax.codec.residual.tables import EXPONENTS, WIDTHS, level_of, tables
from tcm_jax.entropy import pixel_coder, pixel_prediction
from tcm_jax.entropy.pixel_prediction import (
    BIAS,
    FIRST_HAT_TAP,
    FRACTION,
    HAT_TAPS,
    MARGIN,
    OWN_TAPS,
    REFERENCE_TAPS,
    TAPS,
)
from tcm_jax.errors import ConfigError, StreamError

PHOTOGRAPH = photograph(70, 90)
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (70, 90, 3)).astype(np.uint8)
CHECKERS = (np.indices((70, 90)).sum(0) % 2 * 255).astype(np.uint8)
GLYPHS = np.tile(RNG.integers(0, 2, (10, 8)) * 200, (8, 12)).astype(np.uint8)
DRAWING = np.zeros((90, 120, 3), np.uint8)
DRAWING[20:60, 30:80] = (200, 30, 40)
DRAWING[40:70, 60:110] = (10, 200, 250)
EXTREMES = (RNG.integers(0, 2, (40, 50, 3)) * 255).astype(np.uint8)
PICTURES = {
    "photograph": (PHOTOGRAPH, PREDICTED),
    "grey": (PHOTOGRAPH[..., 1], PREDICTED),
    "two": (photograph(300, 130), PREDICTED),
    "noise": (NOISE, STORED),
    "checkers": (CHECKERS, PATTERNS),
    "glyphs": (GLYPHS, PATTERNS),
    "drawing": (DRAWING, PATTERNS),
    "one": (np.full((1, 1, 3), 77, np.uint8), STORED),
    "row": (PHOTOGRAPH[:1], None),
    "column": (PHOTOGRAPH[:, :1], None),
    "white": (np.full((65, 33), 255, np.uint8), PATTERNS),
    "extremes": (EXTREMES, None),
}


def shifted(picture: np.ndarray, seed: int = 1) -> np.ndarray:
    """What latents might make of a picture."""
    noise = np.random.default_rng(seed).normal(0, 4, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_predictions_see_the_taps_that_are_declared():
    """Each tap alone; W and WW are those that wait for the sample on the left, and are added later."""
    own, before, first, hat = np.random.default_rng(3).integers(0, 256, (4, 4, 20 + 2 * MARGIN))
    places = [(own, *place) for place in OWN_TAPS] + [(before, *place) for place in REFERENCE_TAPS]
    places += [(first, *place) for place in REFERENCE_TAPS] + [(hat, *place) for place in HAT_TAPS]
    assert len(places) == TAPS - 1
    for tap, (plane, row, column) in enumerate([*places, (np.full_like(own, BIAS), 0, 0)]):
        base, coefs = np.zeros(20, np.int64), (np.arange(TAPS) == tap).astype(np.int64)
        rows = own[1], own[0], before[2], before[1], first[2], first[1], hat[1], hat[2], hat[3]
        pixel_prediction._predict(base, *rows, coefs, 0, 20, 2, True)
        expected = plane[2 + row, MARGIN + column :][:20] if tap > 1 else 0
        np.testing.assert_array_equal(base - (1 << FRACTION - 3), expected, err_msg=f"tap {tap}")
    assert places[FIRST_HAT_TAP][0] is hat


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("step", [1, 2, 3, 10, 255])
@pytest.mark.parametrize("with_hat", [False, True])
def test_every_picture_comes_back_within_the_bound(name, step, with_hat):
    picture, kind = PICTURES[name]
    hat = shifted(picture) if with_hat else None
    layer = encode_layer(picture, None if hat is None else hat.copy(), step)
    decoded = decode_layer(layer.data, None if hat is None else hat.copy(), picture.shape)
    np.testing.assert_array_equal(decoded, layer.decoded)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - picture).max() <= step // 2
    if step == 1:
        assert step_of(layer.data) == 1
        if not with_hat and kind is not None:
            assert layer.data[0] == kind


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    picture=arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))),
    hat=st.booleans(), step=st.sampled_from([1, 1, 2, 3, 4, 7, 30]),
)  # fmt: skip
def test_any_small_picture(picture, hat, step):
    picture = picture[..., 0] if picture.shape[2] == 1 else picture
    guess = shifted(picture) if hat else None
    layer = encode_layer(picture, guess, step)
    decoded = decode_layer(layer.data, None if guess is None else guess.copy(), picture.shape)
    np.testing.assert_array_equal(decoded, layer.decoded)
    assert np.abs(decoded.astype(int) - picture).max() <= step // 2
    assert hat or len(layer.data) <= picture.size + 5


def test_what_is_simple_is_small():
    assert len(encode_layer(CHECKERS).data) < 60
    assert len(encode_layer(np.zeros((500, 400, 3), np.uint8)).data) < 80
    assert len(encode_layer(GLYPHS).data) < 250
    assert len(encode_layer(PHOTOGRAPH).data) < 0.62 * PHOTOGRAPH.size


def test_the_decoded_latents_help():
    """With x_hat one level off, the residual is what three values cost; and it is not used where there is none."""
    near = np.clip(PHOTOGRAPH + RNG.integers(-1, 2, PHOTOGRAPH.shape), 0, 255).astype(np.uint8)
    assert len(encode_layer(PHOTOGRAPH, near).data) < 0.75 * len(encode_layer(PHOTOGRAPH).data)


def test_coarser_is_smaller():
    sizes = [len(encode_layer(PHOTOGRAPH, None, step).data) for step in (1, 3, 6, 12, 24, 48)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.2 * sizes[0]


def test_strips_go_on_where_the_one_before_ended():
    """A picture of three strips is coded as one: the same symbols as in one piece."""
    picture = photograph(300, 20)
    layer = encode_layer(picture)
    np.testing.assert_array_equal(decode_layer(layer.data, None, picture.shape), picture)


@pytest.mark.parametrize(
    "picture", [PHOTOGRAPH, DRAWING, GLYPHS, NOISE], ids=["photograph", "drawing", "glyphs", "noise"]
)
def test_damage_is_noticed(picture):
    data, refused = encode_layer(picture).data, 0
    for i in range(300):
        rng = np.random.default_rng(i)
        damaged = bytearray(data)
        if i % 3 == 0:
            damaged = damaged[: rng.integers(len(data))]
        elif i % 3 == 1:
            damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        else:
            at = rng.integers(len(data))
            damaged[at : at + 9] = rng.bytes(9)
        if bytes(damaged) == data:
            continue
        try:
            decoded = decode_layer(bytes(damaged), None, picture.shape)
        except StreamError:
            refused += 1
        else:  # the last bits of a stream may not matter
            np.testing.assert_array_equal(decoded, picture)
    assert refused > 285


@settings(max_examples=200, deadline=None, derandomize=True)
@given(kind=st.integers(0, 3), body=st.binary(max_size=300), grey=st.booleans(), hat=st.booleans())
def test_any_bytes_are_a_picture_or_an_error(kind, body, grey, hat):
    shape = (20, 30) if grey else (20, 30, 3)
    data = bytes([kind]) + body
    try:
        decode_layer(data, np.zeros(shape, np.uint8) if hat else None, shape)
    except StreamError:
        return
    assert kind == STORED


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), step=st.sampled_from([1, 2, 9, 255]), hat=st.booleans())
def test_forged_models_and_streams(seed, step, hat):
    """Any numbers that a model may have, and any stream: a picture comes out, and no sample is out of range."""
    rng = np.random.default_rng(seed)
    height, width = 20, 40
    classes = int(rng.integers(1, 256))
    numbers = 3 * (classes * 27 + 14)
    model = rng.bytes(2 * numbers) + bytes(rng.integers(0, (WIDTHS, len(EXPONENTS)), (78, 2)).astype(np.uint8))
    model += bytes(rng.integers(0, classes, 6).astype(np.uint8))
    packed = zlib.compress(model)
    body = bytes([step, classes]) + _counted(packed) + _counted(rng.bytes(2 * int(rng.integers(2, 4000))))
    with pytest.raises(StreamError):
        decode_layer(bytes([0]) + bytes(4) + body, np.zeros((height, width, 3), np.uint8) if hat else None,
                     (height, width, 3))  # fmt: skip


def _counted(data: bytes) -> bytes:
    return bytes([len(data) & 127 | 128, len(data) >> 7 & 127 | 128, len(data) >> 14]) + data


def test_the_wrong_latents_are_noticed():
    hat = shifted(PHOTOGRAPH)
    data = encode_layer(PHOTOGRAPH, hat.copy()).data
    hat[3, 4, 1] ^= 1
    with pytest.raises(ChecksumError):
        decode_layer(data, hat, PHOTOGRAPH.shape)


def test_tables_sum_to_one_and_search_where_they_should():
    shapes = np.array([(w, e) for w in range(0, WIDTHS, 5) for e in range(len(EXPONENTS))], np.uint8)
    for step in (1, 2, 7, 255):
        buckets, cumulative, lowest, escapes = tables(shapes, step)
        for i, escape in enumerate(escapes):
            sums = cumulative[i, : escape + 2].astype(int)
            assert (sums[0], sums[-1]) == (0, 1 << pixel_coder.FREQUENCY_BITS)
            assert np.diff(sums).min() >= 1
            assert lowest[i] <= 1 <= lowest[i] + escape
            targets = np.arange(pixel_coder.BUCKETS) << pixel_coder.BUCKET_BITS
            assert (sums[buckets[i]] <= targets).all()
            assert (sums[buckets[i].astype(int) + 1] > targets).all()


def test_golden_tables_and_levels():
    """Decoders have these numbers: they never change."""
    shapes = np.array([(w, e) for w in range(WIDTHS) for e in range(len(EXPONENTS))], np.uint8)
    crc = 0
    for step in (1, 2, 3, 8):
        for table in tables(shapes, step):
            crc = zlib.crc32(np.ascontiguousarray(table.astype("<i4")).data, crc)
    assert crc == GOLDEN_TABLES
    assert zlib.crc32(level_of().data) == GOLDEN_LEVELS


GOLDEN_TABLES, GOLDEN_LEVELS = 2774182582, 3558112535


def test_steps():
    assert [plan.step_of_error(n) for n in (0, 1, 2, 127)] == [1, 3, 4, 254]
    steps = [plan.step_of_quality(q, 0.0675) for q in range(plan.LAYER_FROM + 1, 10_001)]
    assert steps == sorted(steps, reverse=True)
    assert (steps[0], steps[-1]) == (24, 1)
    assert all(step % 2 == 0 or step == 1 for step in steps)
    assert plan.step_of_quality(9501, 8 * 0.0675) == 6  # a quarter of the step for eight times the lambda
    for wrong in (-1, 128):
        with pytest.raises(ConfigError, match="from 0 to 127"):
            plan.step_of_error(wrong)


@pytest.mark.parametrize("step", [2, 6, 24])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_black_and_white_stay(step, channels):
    """A white page is white with every step, though 255 is no whole number of steps from a prediction."""
    picture = np.random.default_rng(0).integers(100, 140, (40, 50, *channels)).astype(np.uint8)
    picture[5:20, 5:30], picture[22:35, 10:40:2], picture[22:35, 11:40:2] = 255, 0, 255
    decoded = encode_layer(picture, None, step).decoded
    extreme = (picture == 0) | (picture == 255)
    np.testing.assert_array_equal(decoded[extreme], picture[extreme])
    assert np.abs(decoded[~extreme].astype(int) - picture[~extreme]).max() <= step // 2


def test_symbols_do_not_depend_on_strips():
    layer = encode_layer(PHOTOGRAPH)
    assert layer.data[0] == PREDICTED
    from tcm_jax.codec.residual.fit import buffers, fit

    model = fit(PHOTOGRAPH, None, 1)
    whole, _ = code(PHOTOGRAPH.copy(), None, model)
    state, parts = buffers(3, PHOTOGRAPH.shape[1]), []
    picture = PHOTOGRAPH.copy()
    for rows in ((0, 16), (16, 17), (17, 70)):
        parts.append(code(picture, None, model, rows, state)[0])
    np.testing.assert_array_equal(np.concatenate(parts), whole)
