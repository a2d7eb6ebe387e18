"""The `.tcm` files in `tests/golden/`: one for every feature of the format, written once and decoded for ever.

    python tests/golden_files.py    adds the files that are missing; what is there is never written again

`tiny.safetensors` holds drawn weights of the smallest network. A file `name.tcm` decodes to an array whose evenly
spaced samples are in `name.npy` (int16), as this code saw them when it wrote the file.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from conftest import drawn_weights, photograph
from flax.traverse_util import flatten_dict, unflatten_dict

from tcm_jax.codec import Codec, picture_encoder
from tcm_jax.codec.residual.layer import Layer, encode_layer
from tcm_jax.images.picture import Picture
from tcm_jax.model.config import ModelConfig
from tcm_jax.weights import files
from tcm_jax.weights.weights import Weights

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS = GOLDEN / "tiny.safetensors"
SAMPLES = 1500
CONFIG = ModelConfig(
    widths=(8, 8, 8), depths=(1, 1, 1), head_dims=(4, 4, 4), hyper_width=8, hyper_depth=1, hyper_head_dim=4,
    latent_channels=12, hyper_channels=8, num_slices=3, atten_width=8, atten_head_dim=4, context_widths=(8, 8),
)  # fmt: skip
BAND = 0.01  # symbols near a boundary in every picture
RGB = photograph(60, 90)
ALPHA = np.clip(np.hypot(*np.mgrid[-30:30, -45:45]) * 9 - 100, 0, 255).astype(np.uint8)
# name: (picture, settings of the codec, quality). `rgb` and `not_portable` were written by the first version; all but
# `sides` list corrections, as files did until the end of November 2026.
FILES = {
    "rgb": (RGB, {"guard_band": BAND}, None),
    "not_portable": (RGB, {"guard_band": 0}, None),
    "quality": (RGB, {"guard_band": BAND}, 62.5),
    "grey": (RGB[..., 0], {"guard_band": BAND}, None),
    "grey_alpha": (np.dstack([RGB[..., :1], ALPHA]), {"guard_band": BAND}, None),
    "rgb_alpha": (np.dstack([RGB, ALPHA]), {"guard_band": BAND}, None),
    "metadata": (Picture(RGB, None, b"an ICC profile" * 9, b"II*\0 EXIF" * 9), {"guard_band": BAND}, None),
    "sides": (RGB, {"guard_band": BAND}, 62.5),
    "tiles": (photograph(150, 530), {"guard_band": BAND, "tile": 512}, None),
    "all": (Picture(photograph(520, 20), np.repeat(ALPHA[:1, :20], 520, axis=0), b"profile", b"MM\0*"),
            {"guard_band": BAND, "tile": 512}, 17.25),
    "layer_alone": (RGB, {}, 100),
    "layer_repeats": (np.tile(RGB[:10, :10] & 0xE0, (6, 9, 1)), {}, 100),
    "layer_palette": (np.tile(RGB[:7, :7, 0] & 0xC0, (6, 9)), {}, 100),
    "layer_stored": (np.random.default_rng(0).integers(0, 256, (33, 44, 3)).astype(np.uint8), {}, 100),
    "layer_near": (photograph(150, 40)[..., 0], {}, 97),
    "layer": (np.dstack([RGB, ALPHA]), {"guard_band": BAND}, 96.5),  # the only one with latents
}  # fmt: skip


@functools.cache
def golden_codec(name: str) -> Codec:
    """The codec that wrote a golden file."""
    _, settings, quality = FILES[name]
    weights = _weights()
    return Codec(weights if quality is None else _variable(weights), coder="native", **settings)


@functools.cache
def _weights() -> Weights:
    return files.load_weights(WEIGHTS)


def _variable(weights: Weights) -> Weights:
    """The same network with three gain levels."""
    flat = flatten_dict(weights.params, sep="/")
    for name, channels in (("y", CONFIG.latent_channels), ("z", CONFIG.hyper_channels)):
        table = np.repeat(np.array([-1.5, -0.5, 0.5], np.float32)[:, None], channels, axis=1)
        flat |= {f"gain_{name}/log_gain": table, f"inverse_gain_{name}/log_gain": -table}
    config = dataclasses.replace(weights.config, levels=3)
    return dataclasses.replace(weights, config=config, params=unflatten_dict(flat, sep="/"))


@contextlib.contextmanager
def only_over_latents() -> Iterator[None]:
    """A layer alone is never the smaller one: the latents of these weights are worth nothing."""

    def large(colour: np.ndarray, hat: np.ndarray | None, step: int) -> Layer:
        layer = encode_layer(colour, hat, step)
        return layer if hat is not None else dataclasses.replace(layer, data=layer.data + bytes(10**6))

    with mock.patch.object(picture_encoder, "encode_layer", large):
        yield


def samples(array: np.ndarray) -> np.ndarray:
    """Evenly spaced values of a decoded picture, int16."""
    return array.ravel()[np.linspace(0, array.size - 1, SAMPLES).astype(np.int64)].astype(np.int16)


def main() -> None:
    """Writes what is missing."""
    GOLDEN.mkdir(exist_ok=True)
    if not WEIGHTS.exists():
        weights = drawn_weights(CONFIG, seed=0)
        rounded = files.make_weights(CONFIG, weights.params, {"name": "golden"}, np.float16)
        files.save_weights(WEIGHTS, rounded, np.float16)
    for name, (picture, _, quality) in FILES.items():
        path, codec = GOLDEN / f"{name}.tcm", golden_codec(name)
        if not path.exists():
            with only_over_latents() if name == "layer" else contextlib.nullcontext():
                path.write_bytes(codec.compress(picture, *([] if quality is None else [quality])))
        if not path.with_suffix(".npy").exists():
            np.save(path.with_suffix(".npy"), samples(codec.decompress(path.read_bytes())))


if __name__ == "__main__":
    main()
