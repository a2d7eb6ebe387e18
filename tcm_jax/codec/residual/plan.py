"""When the residual layer is used, and how finely; a decoder need not know it (docs/residual.md)."""

import dataclasses
from collections.abc import Callable
from numbers import Integral
from typing import NamedTuple

import numpy as np

from tcm_jax.codec.container import MAX_QUALITY, MIN_QUALITY, Container
from tcm_jax.codec.residual.layer import Layer, encode_layer, repeats
from tcm_jax.codec.residual.spare import block_errors, spared
from tcm_jax.codec.scalars import plain
from tcm_jax.codec.symbols import Measured
from tcm_jax.errors import ConfigError
from tcm_jax.images.psnr import mean_squared_error
from tcm_jax.model.config import LATENT_STRIDE

LAYER_FROM = 9500  # hundredths of quality: above it the layer carries the error down, to nothing at 100
_HELPED_FROM = 0.01355  # lambda above which no picture is left to latents that fail
SHARE_FOR_EYE = 0.2  # of lambda, for which a squared error counts beside latents for the eye: a layer's look worse
MOST_ERROR = 127
LATENTS_FROM = 6  # the finest step at which latents are worth their bytes: below it files are smaller without
_COARSEST = 24, 0.0675  # the step at LAYER_FROM, and the lambda there
_LAMBDAS = 0.0009, 0.085  # bits a pixel for a squared level, at quality 1 and 100, of weights that do not say
_STEEPEST = 0.5 / np.log(2)  # bits a sample that divide the squared error by e
_LEAST_GAIN = 0.15  # of the latents' bits: what the layer must be expected to save before it is tried
_MANY_REPEATS = 0.3  # share of pixels that equal a neighbour, above which the layer alone may be smaller than latents
_LEAST_BITS = 4  # of a pixel that equals no neighbour
_BAND, _BANDS = 8, 128  # of every 128 rows 8 are looked at


class Latents(NamedTuple):
    """A file of latents alone, the colours that were coded, the picture that they give, and what was found out."""

    colour: np.ndarray
    container: Container
    x_hat: np.ndarray
    measured: Measured

    @property
    def bytes(self) -> int:
        """Number of bytes of the stream."""
        return len(self.container.stream)


LatentsEncoder = Callable[[np.ndarray], Latents]  # of colours, uint8 [H, W, 3] or [H, W], of one picture


@dataclasses.dataclass(frozen=True)
class Choice:
    """A layer of a step, and the latents that go with it, if any."""

    layer: Layer
    latents: Latents | None
    step: int

    @property
    def bytes(self) -> int:
        """Number of bytes of both."""
        return len(self.layer.data) + (self.latents.bytes if self.latents else 0)


def step_of_error(max_error: int) -> int:
    """The coarsest useful step that no sample is off by more than `max_error` with. Raises ConfigError."""
    most = plain(max_error)
    if not isinstance(most, Integral) or isinstance(most, bool) or not 0 <= int(most) <= MOST_ERROR:
        raise ConfigError(f"the largest error must be a whole number from 0 to {MOST_ERROR}, not {max_error!r}")
    return (1, 3)[most] if most < 2 else 2 * int(most)


def step_of_quality(hundredths: int, lam: float) -> int:
    """The step of a quality above LAYER_FROM: equal factors for equal differences, and 1 at 100.

    `lam` is the lambda at LAYER_FROM. Its power is such that the error falls on from that of the latents there.
    """
    step, usual = _COARSEST
    return _efficient((step * (usual / lam) ** (2 / 3)) ** ((MAX_QUALITY - hundredths) / (MAX_QUALITY - LAYER_FROM)))


def _efficient(step: float) -> int:
    """The nearest step that is even, or 1: an odd one needs as many bits as the next smaller, for larger errors."""
    return 1 if step < 1.5 else max(2, min(2 * round(step / 2), 254))


def is_tried(colour: np.ndarray, lam: float) -> bool:
    """Whether `choose_layer` is asked: where lambda is large, and for pictures that look drawn.

    `lam` is bits a pixel for a squared level of 8 bits, 0 for never. What `choose_layer` asks for, the latents'
    picture, takes about as long as the latents.
    """
    if lam > _HELPED_FROM:
        return True
    bands = [colour[top : top + _BAND] for top in range(0, len(colour), _BANDS)]
    return lam > 0 and float(np.mean([repeats(band) for band in bands])) >= _MANY_REPEATS


def choose_layer(colour: np.ndarray, latents: Latents, lam: float, encode: LatentsEncoder | None) -> Choice | None:
    """The layer, beside latents or in their place, that costs less than they do alone, or None.

    Costs are bits plus `lam` times squared errors. `encode` makes other latents, which are spared what they fail at;
    without it no layer goes beside any. Most pictures are not tried, as that takes much
    longer than their latents.
    """
    pixels, error = colour.shape[0] * colour.shape[1], mean_squared_error(colour, latents.x_hat)
    best, least = None, 8 * latents.bytes + lam * pixels * error
    for step, beside in _candidates(colour, latents, error, lam, encode):
        choice = Choice(encode_layer(colour, beside.x_hat if beside else None, step), beside, step)
        cost = 8 * choice.bytes + lam * pixels * mean_squared_error(colour, choice.layer.decoded)
        if cost < least:
            best, least = choice, cost
    return best


def searched(colour: np.ndarray, choice: Choice, search: LatentsEncoder) -> Choice:
    """The same layer and latents, if there are any, after a `search` for the latter."""
    if choice.latents is None:
        return choice
    latents = search(choice.latents.colour)
    return Choice(encode_layer(colour, latents.x_hat, choice.step), latents, choice.step)


def _candidates(
    colour: np.ndarray, latents: Latents, error: float, lam: float, encode: LatentsEncoder | None
) -> list[tuple[int, Latents | None]]:
    """(step, latents below it, if any) of the layers that may cost less than latents of that mean squared error."""
    floor = _floor(colour, lam)
    coarse = _efficient((12 * floor) ** 0.5)
    failed = _expected_gain(colour, latents.x_hat, floor) > _LEAST_GAIN * 8 * latents.bytes
    found: list[tuple[int, Latents | None]] = []
    if failed or _may_pay(colour, latents.bytes):
        found.append((1, None))
    as_good = max(1, 2 * int((3 * error) ** 0.5))  # the coarsest even step, or 1
    if failed:
        found.append((_cheapest_step_alone(colour, lam, coarse), None))
    elif _bits_alone(colour, as_good) < (1 - _LEAST_GAIN) * 8 * latents.bytes:
        found.append((min(as_good, _cheapest_step_alone(colour, lam, coarse)), None))
    if failed and encode:
        found.append((_cheapest_step(colour, latents.x_hat, lam, coarse), latents))
    if others := encode and spared_latents(colour, latents, lam, encode):
        found.append((_cheapest_step(colour, others.x_hat, lam, coarse), others))
    return found


def spared_latents(colour: np.ndarray, latents: Latents, lam: float, encode: LatentsEncoder) -> Latents | None:
    """Latents of the picture without what they fail at and a layer codes in few bits; None if there is little of it."""
    simpler = spared(colour, latents.x_hat, _floor(colour, lam))
    return None if simpler is None else encode(simpler)


def _cheapest_step(colour: np.ndarray, x_hat: np.ndarray, lam: float, coarse: int) -> int:
    """The step from half of `coarse` to its double that suits x_hat's errors best, which may have few values."""
    rows = zip(colour, x_hat, strict=True)
    counts = sum(np.bincount((row.astype(np.int32) - guess).ravel() + 255, minlength=511) for row, guess in rows)
    errors, costs, channels = np.arange(-255, 256), {}, colour.size // (colour.shape[0] * colour.shape[1])
    for step in range(max(2, _efficient(coarse / 2)), min(2 * coarse, 254) + 1, 2):
        symbols = np.sign(errors) * ((abs(errors) + (step - 1) // 2) // step)
        shares = np.bincount(symbols + 255, counts) / colour.size
        entropy = -(shares * np.log2(np.where(shares, shares, 1))).sum()
        squared = (counts * np.square(errors - step * symbols)).sum() / colour.size
        costs[step] = entropy * channels + lam * squared
    return min(costs, key=costs.__getitem__)


def _cheapest_step_alone(colour: np.ndarray, lam: float, coarse: int) -> int:
    """The step up to `coarse` that suits a layer alone best: below it where a sample takes less than a bit or two."""
    pixels, steps = colour.shape[0] * colour.shape[1], range(max(2, _efficient(coarse / 3)), max(2, coarse) + 1, 2)
    return min(steps, key=lambda step: _bits_alone(colour, step) + lam * pixels * step**2 / 12)


def usual_lambda(hundredths: int) -> float:
    """Bits a pixel that a squared level of mean error is worth at a quality of weights that do not say it."""
    first, last = _LAMBDAS
    return first * (last / first) ** ((hundredths - MIN_QUALITY) / (MAX_QUALITY - MIN_QUALITY))


def _floor(colour: np.ndarray, lam: float) -> float:
    """Squared error below which bits are worth more."""
    return _STEEPEST * (colour.shape[2] if colour.ndim == 3 else 1) / lam


def _expected_gain(colour: np.ndarray, x_hat: np.ndarray, floor: float) -> float:
    """Bits that a layer may save where blocks' squared errors are above `floor` (reverse water-filling)."""
    ratio = np.maximum(block_errors(colour, x_hat) / floor, 1)
    sizes = (np.diff(np.append(np.arange(0, length, LATENT_STRIDE), length)) for length in colour.shape[:2])
    return _STEEPEST * float(((ratio - 1 - np.log(ratio)) * np.outer(*sizes)).sum()) * colour[0, 0].size


def _may_pay(colour: np.ndarray, budget: int) -> bool:
    """Whether a layer of a picture whose latents do not fail may take not much more than `budget` bytes."""
    share, pixels = repeats(colour), colour.shape[0] * colour.shape[1]
    return share >= _MANY_REPEATS and (1 - share) * pixels * _LEAST_BITS / 8 <= 2 * budget


def _bits_alone(colour: np.ndarray, step: int) -> float:
    """About what a layer alone takes, from some rows: the entropy of what the mean of two neighbours misses."""
    bits: list[float] = []
    for top in range(0, len(colour), _BANDS):
        band = colour[top : top + _BAND].astype(np.int32)
        if min(band.shape[:2]) < 2:
            continue
        if band.ndim == 3:
            band[..., ::2] -= band[..., 1:2]
        missed = band[1:, 1:] - (band[:-1, 1:] + band[1:, :-1] >> 1)
        for symbols in np.rint(missed / step).reshape(missed.shape[0] * missed.shape[1], -1).T:
            shares = np.unique(symbols, return_counts=True)[1] / len(symbols)
            bits.append(-float((shares * np.log2(shares)).sum()))
    return float(np.mean(bits or 0.0)) * colour.size
