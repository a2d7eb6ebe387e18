"""When the residual layer is used, and how finely; docs/format.md says nothing of it, as decoders need not know."""

import numpy as np

from tcm_jax.codec.residual.layer import Layer, encode_layer, repeats
from tcm_jax.errors import ConfigError

LAYER_FROM = 9500  # hundredths of quality: above it the layer carries the error down, to nothing at 100
HELPED_FROM = 6000  # above it no picture is left to latents that fail
MOST_ERROR = 127
LATENTS_FROM = 6  # the finest step at which latents are worth their bytes: below it files are smaller without
_COARSEST = 24  # the step at LAYER_FROM
_STEPS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # tried where latents fail
_FAILED, _FAILED_SLOPE = 28.0, 0.1  # dB that latents at HELPED_FROM should reach, and more for each quality beyond
_MANY_REPEATS = 0.3  # share of pixels that equal a neighbour, above which the layer alone may be smaller than latents
_LEAST_BITS = 4  # of a pixel that equals no neighbour


def step_of_error(max_error: int) -> int:
    """The coarsest useful step that no sample is off by more than `max_error` with. Raises ConfigError."""
    if not 0 <= max_error <= MOST_ERROR:
        raise ConfigError(f"the largest error must lie between 0 and {MOST_ERROR} levels, not {max_error}")
    return (1, 3)[max_error] if max_error < 2 else 2 * max_error


def step_of_quality(hundredths: int) -> int:
    """The step of a quality above LAYER_FROM: equal factors for equal differences, and 1 at 100."""
    return round(_COARSEST ** ((10_000 - hundredths) / (10_000 - LAYER_FROM)))


def in_place_of_latents(colour: np.ndarray, hat: np.ndarray, hundredths: int, budget: int) -> Layer | None:
    """A layer of at most `budget` bytes, without latents, that is nearer to the picture than x_hat, or None.

    Most pictures are not tried, as that takes ten times as long as their latents: these come as near as such a quality
    should, and few pixels repeat, or so many do not that a layer cannot be as small.
    """
    error = _squared_error(colour, hat)
    failed = _FAILED + _FAILED_SLOPE * (hundredths - HELPED_FROM) / 100
    if error == 0 or (10 * np.log10(255**2 / error) >= failed and not _may_pay(colour, budget)):
        return None
    exact = encode_layer(colour)
    if len(exact.data) <= budget:
        return exact
    best = None
    first, last = 1, len(_STEPS)
    while first < last:  # the finest step whose layer fits
        middle = (first + last) // 2
        layer = encode_layer(colour, None, _STEPS[middle])
        if len(layer.data) <= budget:
            best, last = layer, middle
        else:
            first = middle + 1
    return best if best and _squared_error(colour, best.decoded) < error else None


def _may_pay(colour: np.ndarray, budget: int) -> bool:
    """Whether a layer of a picture whose latents do not fail may take not much more than `budget` bytes."""
    share, pixels = repeats(colour), colour.shape[0] * colour.shape[1]
    return share >= _MANY_REPEATS and (1 - share) * pixels * _LEAST_BITS / 8 <= 2 * budget


def _squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over all samples; row by row, as large pictures are not held as floats."""
    return sum(float(np.square(x.astype(np.int32) - y).sum()) for x, y in zip(a, b, strict=True)) / a.size
