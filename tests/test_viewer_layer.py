"""The JavaScript decoder of residual layers (viewer/src/residual.js) gives the samples of ours, on every layer."""

import base64
import functools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import photograph
from golden_files import FILES, GOLDEN, golden_codec
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_models import drawn_model

from tcm_jax.codec import decoder
from tcm_jax.codec.container import parse
from tcm_jax.codec.residual import layer as layer_module
from tcm_jax.codec.residual.layer import PATTERNS, PREDICTED, STORED, decode_layer, encode_layer, step_of
from tcm_jax.errors import StreamError

DECODER = Path(__file__).parents[1] / "viewer" / "test" / "decode_layers.js"
NODE = shutil.which("node")
Answer = dict[str, str]
Decoder = Callable[[bytes, np.ndarray | None, tuple[int, ...]], Answer]

pytestmark = pytest.mark.skipif(NODE is None, reason="node, which runs the JavaScript decoder, is not installed")


@pytest.fixture(scope="module")
def decode() -> Iterator[Decoder]:
    """A running decoder, which answers {samples} or {error}."""
    with subprocess.Popen([str(NODE), str(DECODER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin and node.stdout

        def ask(payload: bytes, hat: np.ndarray | None, shape: tuple[int, ...]) -> Answer:
            height, width, *channels = shape
            question = {
                "width": width, "height": height, "channels": 3 if channels else 1, "payload": _text(payload),
                "decoded": None if hat is None else _text(hat.tobytes()),
            }  # fmt: skip
            print(json.dumps(question), file=node.stdin, flush=True)
            line = node.stdout.readline()
            assert line, "the decoder ended on something that is no error of a file"
            return json.loads(line)

        yield ask
        node.stdin.close()
    assert node.returncode == 0


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _samples(answer: Answer, shape: tuple[int, ...]) -> np.ndarray:
    assert "samples" in answer, answer
    return np.frombuffer(base64.b64decode(answer["samples"]), np.uint8).reshape(shape)


LAYERS = [name for name in FILES if name.startswith("layer")]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "layer" else n for n in LAYERS])
def test_golden_files(name, decode):
    data = (GOLDEN / f"{name}.tcm").read_bytes()
    below: list[np.ndarray | None] = []

    def record(layer, hat, shape):
        below.append(None if hat is None else hat.copy())
        return decode_layer(layer, hat, shape)

    with mock.patch.object(decoder, "decode_layer", record):
        colour = golden_codec(name).decode(data).colour
    np.testing.assert_array_equal(_samples(decode(parse(data).layer, below[0], colour.shape), colour.shape), colour)


def test_golden_files_hold_every_kind():
    layers = [parse((GOLDEN / f"{name}.tcm").read_bytes()).layer for name in LAYERS]
    assert {layer[0] for layer in layers} == {PREDICTED, PATTERNS, STORED}
    assert {step_of(layer) > 1 for layer in layers} == {False, True}


def _picture(kind: str, seed: int, height: int, width: int, grey: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "photograph":
        picture = photograph(height, width, seed)
    elif kind == "noise":
        picture = rng.integers(0, 256, (height, width, 3))
    elif kind == "extremes":
        picture = rng.choice([0, 255], (height, width, 3))
    elif kind == "specks":
        picture = np.where(rng.random((height, width, 3)) < 0.03, rng.integers(0, 256, (height, width, 3)), 200)
    elif kind == "colours":
        picture = rng.integers(0, 256, (seed % 300 + 1, 3))[rng.integers(0, seed % 300 + 1, (height, width))]
    else:
        rows, columns = -(-height // 10), -(-width // 14)
        picture = np.tile(rng.integers(0, 256, (5, 7, 3)).repeat(2, 0).repeat(2, 1), (rows, columns, 1))[
            :height, :width
        ]
    return np.ascontiguousarray(picture[..., 1] if grey else picture).astype(np.uint8)


KINDS = ("photograph", "noise", "extremes", "specks", "colours", "repeats")
PARTS = {
    "kind": st.sampled_from(KINDS), "seed": st.integers(0, 2**20), "height": st.integers(1, 40) | st.integers(120, 140),
    "width": st.integers(1, 40), "grey": st.booleans(), "with_hat": st.booleans(),
    "step": st.sampled_from([1, 1, 2, 3, 4, 7, 24, 100, 255]),
}  # fmt: skip


def _below(picture: np.ndarray, seed: int) -> np.ndarray:
    """What latents might make of a picture."""
    noise = np.random.default_rng(seed).normal(0, seed % 9, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**PARTS)
def test_any_picture(decode, kind, seed, height, width, grey, with_hat, step):
    picture = _picture(kind, seed, height, width, grey)
    hat = _below(picture, seed) if with_hat else None
    layer = encode_layer(picture, None if hat is None else hat.copy(), step)
    np.testing.assert_array_equal(_samples(decode(layer.data, hat, picture.shape), picture.shape), layer.decoded)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**PARTS)
def test_any_model(decode, kind, seed, height, width, grey, with_hat, step):
    """Predictors at random, up to the largest numbers that a file may have, and any frequencies."""
    picture = _picture(kind, seed, height, width, grey)
    hat = _below(picture, seed) if with_hat else None
    with mock.patch.object(layer_module, "fit", lambda deep, hat, step: drawn_model(deep.shape, step, seed)):
        layer = layer_module._predicted(picture, None if hat is None else hat.copy(), step)
    np.testing.assert_array_equal(_samples(decode(layer.data, hat, picture.shape), picture.shape), layer.decoded)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**20), grey=st.booleans())
def test_any_repeats(decode, kind, seed, grey):
    """Pictures of every kind as those that repeat themselves, where that takes no more than their samples."""
    picture = _picture(kind, seed, 23, 31, grey)
    for layer in layer_module._patterns(picture):
        np.testing.assert_array_equal(_samples(decode(layer.data, None, picture.shape), picture.shape), picture)


@functools.cache
def _small_layer(kind: str, seed: int) -> bytes:
    return encode_layer(_picture(kind, seed, 12, 20, bool(seed % 2)), None, 1 + seed).data


@settings(max_examples=300, deadline=None, derandomize=True)
@given(kind=st.sampled_from(("photograph", "colours", "repeats")), seed=st.integers(0, 3), data=st.data())
def test_damage_has_the_same_end(decode, kind, seed, data):
    """An altered layer is refused by both decoders, or decodes to the same."""
    layer, shape = _small_layer(kind, seed), (12, 20) if seed % 2 else (12, 20, 3)
    at = data.draw(st.integers(0, len(layer) - 1))
    layer = layer[:at] + data.draw(st.binary(max_size=3)) + layer[at + data.draw(st.integers(0, 3)) :]
    answer = decode(layer, None, shape)
    try:
        expected = decode_layer(layer, None, shape)
    except StreamError:
        assert set(answer) == {"error"}
    else:
        np.testing.assert_array_equal(_samples(answer, shape), expected)


def test_the_errors_are_ours(decode):
    """Class and sentence of a refusal are those of this package."""
    picture = photograph(20, 30)
    layer, hat = encode_layer(picture, picture.copy(), 3).data, picture.copy()
    hat[5, 6, 1] ^= 8
    for data, below in ((layer[:40], picture), (layer, hat), (b"\1" + layer[1:], picture), (layer + b"\0", picture)):
        with pytest.raises(StreamError) as refused:
            decode_layer(data, below.copy(), picture.shape)
        assert decode(data, below, picture.shape)["error"] == f"{type(refused.value).__name__}: {refused.value}"


@pytest.mark.slow
def test_its_own_tests():
    """Kept layers, every refusal, and 5,000 damaged payloads."""
    done = subprocess.run([str(NODE), "--test", "residual.test.js"], cwd=DECODER.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
