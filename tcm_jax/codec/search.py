"""The quality of a variable-rate model that meets a target, by bisection."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.codec.container import MAX_QUALITY, MIN_QUALITY
from tcm_jax.codec.effort import Effort
from tcm_jax.errors import ConfigError
from tcm_jax.images.limits import MAX_PIXELS
from tcm_jax.images.picture import Picture
from tcm_jax.images.psnr import psnr

BPP_TOLERANCE = 0.01  # relative: a file this little below its target is not made larger
PSNR_TOLERANCE = 0.02  # dB
ATTEMPTS = 3  # at a target with an effort, and more only until one meets it

Candidate = tuple[bytes, float]  # a file, and its bits a pixel or PSNR
Measure = Callable[[int, Effort], Candidate]  # of a quality in hundredths


@dataclasses.dataclass(frozen=True)
class _Goal:
    """A target and the qualities of which the files get worse from `good`, which meets it first, to `bad`."""

    good: int
    bad: int
    fits: Callable[[float, float], bool]  # a value and its target
    close: Callable[[float, float], bool]
    corrected: Callable[[float, float, float], float]  # what the plain encoder aimed at, target, value: its next aim


def compress_to_bpp(
    codec: Codec, picture: Picture, bpp: float, max_pixels: int = MAX_PIXELS, effort: int | Effort = 0
) -> tuple[bytes, float]:
    """(file, quality): the highest quality whose file has at most `bpp` bits a pixel, within 1 %.

    Raises ConfigError if the lowest quality needs more, or the weights have one rate.
    """
    pixels = picture.colour.shape[0] * picture.colour.shape[1]

    def measure(quality: int, effort: Effort) -> Candidate:
        data = codec.compress(picture, quality / 100, max_pixels, effort=effort)
        return data, 8 * len(data) / pixels

    goal = _Goal(
        MIN_QUALITY,
        MAX_QUALITY,
        lambda value, aim: value <= aim,
        lambda value, aim: value >= aim * (1 - BPP_TOLERANCE),
        lambda aim, target, value: aim * target * (1 - BPP_TOLERANCE / 2) / value,
    )
    data, quality, reached = _search(codec, measure, goal, bpp, Effort.of(effort))
    if reached > bpp:
        raise ConfigError(f"even quality 1 needs {reached:.4f} bpp, more than the {bpp:g} asked for")
    return data, quality


def compress_to_psnr(
    codec: Codec, picture: Picture, db: float, max_pixels: int = MAX_PIXELS, effort: int | Effort = 0
) -> tuple[bytes, float]:
    """(file, quality): the lowest quality whose colours have a PSNR of at least `db`, within 0.02 dB.

    Raises ConfigError if the highest quality does not reach it, or the weights have one rate.
    """

    def measure(quality: int, effort: Effort) -> Candidate:
        encoded = codec.encode(picture, quality / 100, max_pixels, effort=effort)
        return encoded.data, psnr(picture.colour, _colour(encoded.reconstruction, picture))

    goal = _Goal(
        MAX_QUALITY,
        MIN_QUALITY,
        lambda value, aim: value >= aim,
        lambda value, aim: value <= aim + PSNR_TOLERANCE,
        lambda aim, target, value: aim + target + PSNR_TOLERANCE / 2 - value,
    )
    data, quality, reached = _search(codec, measure, goal, db, Effort.of(effort))
    if reached < db:
        raise ConfigError(f"quality 100 reaches {reached:.2f} dB, less than the {db:g} asked for")
    return data, quality


def _colour(array: np.ndarray, picture: Picture) -> np.ndarray:
    return array if picture.alpha is None else Picture.of(array).colour


def _search(codec: Codec, measure: Measure, goal: _Goal, target: float, effort: Effort) -> tuple[bytes, float, float]:
    """(file, quality, measured value) of the quality nearest to `bad` that fits; of `good` itself if that does not.

    With an effort qualities are those at which the plain encoder, which is quick, meets an aim. The aim moves from the
    target by what the effort gained at the last attempt.
    """
    if not codec.weights.config.levels:
        raise ConfigError(f"the weights {codec.weights.name} have one rate, so there is no quality to search")
    plain = dataclasses.replace(effort, level=0)
    found: dict[int, Candidate] = {}

    def measure_plain(quality: int) -> Candidate:
        if quality not in found:
            found[quality] = measure(quality, plain)
        return found[quality]

    data, quality, reached = _bisect(measure_plain, goal, target)
    if not effort.level or math.isinf(reached):  # an exact file cannot be better
        return data, quality / 100, reached
    best, aim, attempts = None, target, 0
    while True:
        data, reached = measure(quality, effort)
        fits, attempts = goal.fits(reached, target), attempts + 1
        if fits and (best is None or goal.fits(best[2], reached)):
            best = data, quality / 100, reached
        at_last = (
            quality == goal.good
            or math.isinf(reached)
            or (best is not None and (attempts >= ATTEMPTS or quality == goal.bad))
        )
        if at_last or (fits and goal.close(reached, target)):
            return best or (data, quality / 100, reached)
        aim = goal.corrected(aim, target, reached)
        quality = _bisect(measure_plain, goal, aim)[1]


def _bisect(measure: Callable[[int], Candidate], goal: _Goal, aim: float) -> tuple[bytes, int, float]:
    """(file, quality in hundredths, measured value) as `_search` gives them, with the plain encoder."""
    good, bad = goal.good, goal.bad
    far, near = measure(bad), measure(good)
    if goal.fits(far[1], aim):
        return far[0], bad, far[1]
    while goal.fits(near[1], aim) and abs(bad - good) > 1 and not goal.close(near[1], aim):
        middle = (good + bad) // 2
        result = measure(middle)
        if goal.fits(result[1], aim):
            good, near = middle, result
        else:
            bad = middle
    return near[0], good, near[1]
