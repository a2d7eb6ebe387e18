"""BD-rates by the package `bjontegaard`, with what a reader needs to judge them: points, overlap, method."""

import dataclasses
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from tcm_jax.errors import ConfigError
from tcm_jax.system.extras import require_extra

INTERPOLATIONS = ("pchip", "akima", "cubic")
_FEWEST = {"pchip": 2, "akima": 2, "cubic": 4}  # points of a curve


@dataclasses.dataclass(frozen=True)
class BdRate:
    """How many percent more bits the tested curve takes than the anchor for the same quality; less than 0 is better."""

    percent: float
    anchor_points: int
    test_points: int
    low: float  # the range of quality that both curves cover, dB
    high: float
    overlap: float  # that range over the one that either covers, 0 to 1
    interpolation: str


def check() -> ModuleType:
    """The package `bjontegaard`; raises MissingExtraError without it."""
    with require_extra("evaluation", "BD-rates need bjontegaard"):
        import bjontegaard  # which imports matplotlib's pyplot

    return bjontegaard


def bd_rate(
    anchor: tuple[Sequence[float], Sequence[float]],
    test: tuple[Sequence[float], Sequence[float]],
    interpolation: str = "pchip",
) -> BdRate | None:
    """Bjøntegaard-delta rate of two curves (bits per pixel, decibels); None if they do not overlap or are no curves.

    Points are put in the order of their rate, and one whose quality is not above all cheaper ones is left out: a curve
    must rise. Raises ConfigError for an unknown interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ConfigError(f"interpolation {interpolation!r} is none of {', '.join(INTERPOLATIONS)}")
    bjontegaard = check()
    curves = rising(*anchor), rising(*test)
    low, high = max(c[1][0] for c in curves), min(c[1][-1] for c in curves)
    if high <= low or min(len(c[0]) for c in curves) < _FEWEST[interpolation]:
        return None
    points = [values for curve in curves for values in curve]
    percent = bjontegaard.bd_rate(*points, method=interpolation, require_matching_points=False, min_overlap=0)
    whole = max(c[1][-1] for c in curves) - min(c[1][0] for c in curves)
    counts = len(curves[0][0]), len(curves[1][0])
    return BdRate(float(percent), *counts, low, high, (high - low) / whole, interpolation)


def rising(rates: Sequence[float], qualities: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The points in the order of their rate, without those that are not better than a cheaper one."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(zip(rates, qualities, strict=True)):
        if not kept or (quality > kept[-1][1] and rate > kept[-1][0]):
            kept.append((rate, quality))
    rate, quality = np.array(kept, np.float64).T
    return rate, quality


def rate_at(curve: tuple[Sequence[float], Sequence[float]], quality: float) -> float | None:
    """Bits per pixel of a curve at a quality: log rate by pchip between its points; None outside of them."""
    from scipy.interpolate import PchipInterpolator

    rates, qualities = rising(*curve)
    if len(rates) < 2 or not qualities[0] <= quality <= qualities[-1]:
        return None
    return float(np.exp(PchipInterpolator(qualities, np.log(rates))(quality)))
