"""The quality of a variable-rate model that meets a target, by bisection."""

from collections.abc import Callable

import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.errors import ConfigError
from tcm_jax.images.limits import MAX_PIXELS
from tcm_jax.images.metrics import psnr
from tcm_jax.images.pictures import Picture

LOWEST, HIGHEST = 100, 10_000  # hundredths of quality
BPP_TOLERANCE = 0.01  # relative: a file this little below its target is not made larger
PSNR_TOLERANCE = 0.02  # dB


def compress_to_bpp(codec: Codec, picture: Picture, bpp: float, max_pixels: int = MAX_PIXELS) -> tuple[bytes, float]:
    """(file, quality): the highest quality whose file has at most `bpp` bits a pixel, within 1 %.

    Raises ConfigError if the lowest quality needs more, or the weights have one rate.
    """
    pixels = picture.colour.shape[0] * picture.colour.shape[1]

    def measure(quality: int) -> tuple[bytes, float]:
        data = codec.compress(picture, quality / 100, max_pixels)
        return data, 8 * len(data) / pixels

    data, quality, reached = _bisect(
        codec, measure, LOWEST, HIGHEST, lambda value: value <= bpp, lambda value: value >= bpp * (1 - BPP_TOLERANCE)
    )
    if reached > bpp:
        raise ConfigError(f"even quality 1 needs {reached:.4f} bpp, more than the {bpp:g} asked for")
    return data, quality


def compress_to_psnr(codec: Codec, picture: Picture, db: float, max_pixels: int = MAX_PIXELS) -> tuple[bytes, float]:
    """(file, quality): the lowest quality whose colours have a PSNR of at least `db`, within 0.02 dB.

    Raises ConfigError if the highest quality does not reach it, or the weights have one rate.
    """

    def measure(quality: int) -> tuple[bytes, float]:
        encoded = codec.encode(picture, quality / 100, max_pixels)
        return encoded.data, psnr(picture.colour, _colour(encoded.reconstruction, picture))

    data, quality, reached = _bisect(
        codec, measure, HIGHEST, LOWEST, lambda value: value >= db, lambda value: value <= db + PSNR_TOLERANCE
    )
    if reached < db:
        raise ConfigError(f"quality 100 reaches {reached:.2f} dB, less than the {db:g} asked for")
    return data, quality


def _colour(array: np.ndarray, picture: Picture) -> np.ndarray:
    return array if picture.alpha is None else Picture.of(array).colour


def _bisect(
    codec: Codec,
    measure: Callable[[int], tuple[bytes, float]],
    good: int,
    bad: int,
    fits: Callable[[float], bool],
    close: Callable[[float], bool],
) -> tuple[bytes, float, float]:
    """(file, quality, measured value) of the quality nearest to `bad` that fits; of `good` itself if that does not."""
    if not codec.weights.config.levels:
        raise ConfigError(f"the weights {codec.weights.name} have one rate, so there is no quality to search")
    far, near = measure(bad), measure(good)
    if fits(far[1]):
        return far[0], bad / 100, far[1]
    while fits(near[1]) and abs(bad - good) > 1 and not close(near[1]):
        middle = (good + bad) // 2
        result = measure(middle)
        if fits(result[1]):
            good, near = middle, result
        else:
            bad = middle
    return near[0], good / 100, near[1]
