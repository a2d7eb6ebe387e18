"""When the residual layer is used, and how finely; docs/residual.md says nothing of it, as decoders need not know."""

import dataclasses

import numpy as np

from tcm_jax.codec.residual.layer import Layer, encode_layer, repeats
from tcm_jax.errors import ConfigError

LAYER_FROM = 9500  # hundredths of quality: above it the layer carries the error down, to nothing at 100
HELPED_FROM = 6000  # above it no picture is left to latents that fail
MOST_ERROR = 127
LATENTS_FROM = 6  # the finest step at which latents are worth their bytes: below it files are smaller without
_COARSEST = 24  # the step at LAYER_FROM
_WORTH = 0.0009, 0.085  # bits a pixel for a squared level, at quality 1 and 100: what the embedded model was trained by
_STEEPEST = 0.5 / np.log(2)  # bits a sample by which e times the squared error is less
_LEAST_GAIN = 0.15  # of the latents' bits: what the layer must be expected to save before it is tried
_MANY_REPEATS = 0.3  # share of pixels that equal a neighbour, above which the layer alone may be smaller than latents
_LEAST_BITS = 4  # of a pixel that equals no neighbour
_BLOCK = 16  # pixels a side whose errors are looked at together


@dataclasses.dataclass(frozen=True)
class Help:
    """A layer, and whether latents go with it."""

    layer: Layer
    beside_latents: bool


def step_of_error(max_error: int) -> int:
    """The coarsest useful step that no sample is off by more than `max_error` with. Raises ConfigError."""
    if not 0 <= max_error <= MOST_ERROR:
        raise ConfigError(f"the largest error must lie between 0 and {MOST_ERROR} levels, not {max_error}")
    return (1, 3)[max_error] if max_error < 2 else 2 * max_error


def step_of_quality(hundredths: int) -> int:
    """The step of a quality above LAYER_FROM: equal factors for equal differences, and 1 at 100."""
    return round(_COARSEST ** ((10_000 - hundredths) / (10_000 - LAYER_FROM)))


def help_latents(colour: np.ndarray, hat: np.ndarray, hundredths: int, budget: int, over: bool) -> Help | None:
    """The layer, beside latents or in their place, that costs less than they do alone, or None.

    Costs are bits and, at the quality's exchange, squared errors. `budget` is the latents' bytes; `over` allows a layer
    beside them. Most pictures are not tried, as that takes ten times as long as their latents.
    """
    pixels = colour.shape[0] * colour.shape[1]
    worth = _worth(hundredths)
    floor = _STEEPEST * colour.size / pixels / worth  # squared error below which bits are worth more
    coarse = min(round((12 * floor) ** 0.5), 255)
    failed = _expected_gain(colour, hat, floor) > _LEAST_GAIN * 8 * budget
    if not failed and not _may_pay(colour, budget):
        return None

    attempts = [(1, False)]
    if failed:
        attempts += [(coarse, False), (coarse, True)] if over else [(coarse, False)]
    best, least = None, 8 * budget + worth * pixels * _squared_error(colour, hat)
    for step, beside in attempts:
        layer = encode_layer(colour, hat if beside else None, step)
        size = len(layer.data) + (budget if beside else 0)
        cost = 8 * size + worth * pixels * _squared_error(colour, layer.decoded)
        if cost < least:
            best, least = Help(layer, beside), cost
    return best


def _worth(hundredths: int) -> float:
    """Bits a pixel that a squared level of mean error is worth at a quality."""
    first, last = _WORTH
    return first * (last / first) ** ((hundredths - 100) / 9900)


def _expected_gain(colour: np.ndarray, hat: np.ndarray, floor: float) -> float:
    """Bits that a layer may save where blocks' squared errors are above `floor` (reverse water-filling)."""
    total = 0.0
    for top in range(0, len(colour), _BLOCK):
        rows = slice(top, top + _BLOCK)
        error = np.square(colour[rows].astype(np.int32) - hat[rows])
        columns = error.reshape(*error.shape[:2], -1).mean((0, 2))
        starts = np.arange(0, len(columns), _BLOCK)
        sizes = np.diff(np.append(starts, len(columns)))
        ratio = np.maximum(np.add.reduceat(columns, starts) / sizes / floor, 1)
        total += float(((ratio - 1 - np.log(ratio)) * sizes).sum()) * len(error)
    return _STEEPEST * total * colour.size / (colour.shape[0] * colour.shape[1])


def _may_pay(colour: np.ndarray, budget: int) -> bool:
    """Whether a layer of a picture whose latents do not fail may take not much more than `budget` bytes."""
    share, pixels = repeats(colour), colour.shape[0] * colour.shape[1]
    return share >= _MANY_REPEATS and (1 - share) * pixels * _LEAST_BITS / 8 <= 2 * budget


def _squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over all samples; row by row, as large pictures are not held as floats."""
    return sum(float(np.square(x.astype(np.int32) - y).sum()) for x, y in zip(a, b, strict=True)) / a.size
