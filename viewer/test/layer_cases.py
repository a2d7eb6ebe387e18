"""Writes layers.json: residual layers of every kind, with the picture of the latents below those that have one.

python viewer/test/layer_cases.py
"""

import base64
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import photograph  # noqa: E402
from layer_models import drawn_model  # noqa: E402

from tcm_jax.codec.residual import layer as layer_module  # noqa: E402
from tcm_jax.codec.residual.layer import Layer, encode_layer  # noqa: E402

RGB = photograph(21, 37)
SEED = 142  # of predictors that are drawn; few classes, which take less room here
RNG = np.random.default_rng(0)
TALL = photograph(131, 5)
LETTERS = np.tile(RNG.integers(0, 2, (5, 7)) * 200, (4, 5)).astype(np.uint8)
BLOCKS = RNG.integers(0, 256, (20, 15, 3)).astype(np.uint8).repeat(2, 0).repeat(3, 1)
EDGES = np.where(RNG.random((19, 33, 3)) < 0.1, RNG.integers(0, 256, (19, 33, 3)), 250).astype(np.uint8)
CASES = {
    "exact": (RGB, False, 1),
    "exact, two strips": (TALL, False, 1),
    "exact, grey": (RGB[..., 1], False, 1),
    "near": (RGB, False, 5),
    "near, two strips, grey": (TALL[..., 0], False, 4),
    "exact over latents": (RGB, True, 1),
    "near over latents": (RGB, True, 6),
    "near over latents, two strips": (TALL, True, 3),
    "near over latents, grey": (RGB[..., 2], True, 7),
    "the coarsest over latents": (EDGES, True, 255),
    "escapes over latents": (EDGES, True, 1),
    "drawn predictors": (RGB, False, 2),
    "drawn predictors over latents": (RGB, True, 1),
    "few colours": (LETTERS, False, 1),
    "one colour": (np.full((9, 11, 3), 77, np.uint8), False, 1),
    "many colours": (BLOCKS, False, 1),
    "stored": (RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8), False, 1),
    "one pixel": (RGB[:1, :1], False, 1),
}


def text(array: bytes | np.ndarray) -> str:
    """Base64."""
    return base64.b64encode(bytes(array)).decode()


def encoded(name: str, picture: np.ndarray, hat: np.ndarray | None, step: int) -> Layer:
    """The encoder's layer; with predictors that nothing fits where the name says so."""
    if not name.startswith("drawn"):
        return encode_layer(picture, hat, step)
    with mock.patch.object(layer_module, "fit", lambda picture, hat, step: drawn_model(picture.shape, step, SEED)):
        return layer_module._predicted(picture, hat, step)


def case(name: str, picture: np.ndarray, over_latents: bool, step: int) -> dict[str, object]:
    """What a decoder is given, and the samples that it must give."""
    noise = RNG.normal(0, 5, picture.shape)
    hat = np.clip(picture + noise, 0, 255).astype(np.uint8) if over_latents else None
    layer = encoded(name, picture, None if hat is None else hat.copy(), step)
    height, width, *channels = picture.shape
    return {
        "width": width, "height": height, "channels": 3 if channels else 1, "payload": text(layer.data),
        "decoded": None if hat is None else text(hat), "samples": text(layer.decoded),
    }  # fmt: skip


def main() -> None:
    """The layers by their names."""
    found = {name: case(name, np.ascontiguousarray(picture), *rest) for name, (picture, *rest) in CASES.items()}
    Path(__file__).with_name("layers.json").write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main()
