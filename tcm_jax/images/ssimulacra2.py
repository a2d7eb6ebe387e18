"""SSIMULACRA 2 (Jon Sneyers, Cloudinary; version 2.1 of libjxl's tools), to measure by and to train for.

The structure and the constants are those of the metric's reference in libjxl (BSD 3-clause). A score of 90 is visually
lossless, 70 high quality, 50 medium, 30 low.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tcm_jax.images.blur import TAPS, blurred
from tcm_jax.images.metrics import library_of

MIN_SIDE = 8  # pixels a side below which a scale, and so a picture, is not measured
_SCALES = 6  # each of half the size of the one before
_C2 = 0.0009  # of the SSIM

# Linear RGB to the absorbance of long, middle and short cones (libjxl's opsin_params.h), and its bias.
_ABSORBANCE = np.array(
    [
        [0.30, 1 - 0.078 - 0.30, 0.078],
        [0.23, 1 - 0.078 - 0.23, 0.078],
        [0.24342268924547819, 0.20476744424496821, 1 - 0.24342268924547819 - 0.20476744424496821],
    ],
    np.float32,
)
_BIAS = np.float32(0.0037930732552754493)

# By channel (X, Y, B), scale (fine to coarse), norm (1, 4), and kind: SSIM, artifacts, lost detail. Most are 0.
_WEIGHTS = np.zeros((3, _SCALES, 2, 3))
_WEIGHTS.flat[
    [
        1, 4, 7, 9, 10, 11, 13, 15, 16, 18, 19, 21, 22, 24, 25, 27, 28, 29, 30, 33, 39, 41, 42, 45, 46, 47, 48, 51, 52,
        53, 54, 57, 58, 59, 63, 64, 73, 79, 81, 87, 88, 90, 93, 94, 96, 97, 98, 99, 100, 101, 105, 107,
    ]
] = [
    0.0007376606707406586, 0.0007793481682867309, 0.0004371155730107379, 1.1041726426657346, 0.00066284834129271,
    0.00015231632783718752, 0.0016406437456599754, 1.8422455520539298, 11.441172603757666, 0.0007989109436015163,
    0.000176816438078653, 1.8787594979546387, 10.94906990605142, 0.0007289346991508072, 0.9677937080626833,
    0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053, 0.0004550992113792063, 0.0013648766163243398,
    7.466890328078848, 17.445833984131262, 0.0006235601634041466, 6.683678146179332, 0.00037724407979611296,
    1.027889937768264, 225.20515300849274, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
    176.39317598450694, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408, 34.77906344483772,
    44.835625328877896, 0.0008680556573291698, 0.0005313191874358747, 0.00016533814161379112, 0.0004179171803251336,
    0.0017290828234722833, 0.0020827005846636437, 8.826982764996862, 23.19243343998926, 95.1080498811086,
    0.9863978034400682, 0.9834382792465353, 0.0012286405048278493, 171.2667255897307, 0.9807858872435379,
    0.0005130064588990679, 0.00010854057858411537,
]  # fmt: skip


def ssimulacra2(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Scores of pictures beside their originals: at most 100, which equal ones have; below 0 for very bad ones.

    `a` originals and `b` distorted, float32 [B, H, W, 3], sRGB in [0, 1] -> float32 [B]. JAX arrays give a JAX array
    and can be jitted and differentiated; the gradient is finite, for equal pictures too. NumPy arrays are computed
    without compilation.

    Raises ImageError if the shapes differ or a side has fewer than `MIN_SIDE` pixels.
    """
    xp = library_of(a, b, "SSIMULACRA 2", MIN_SIDE)
    a, b = (xp.moveaxis(_linear(x, xp), -1, 1) for x in (a, b))
    errors = [_errors(_xyb(a, xp), _xyb(b, xp), xp)]
    while len(errors) < _SCALES and (min(a.shape[2:]) + 1) // 2 >= MIN_SIDE:
        a, b = _halve(a, xp), _halve(b, xp)
        errors.append(_errors(_xyb(a, xp), _xyb(b, xp), xp))
    errors = xp.stack(errors, 2)  # [B, 3, scales, 2, 3]
    # The weights are taken one after the other, as the reference does for small pictures that have fewer scales too.
    weights = _WEIGHTS.ravel()[: math.prod(errors.shape[1:])].astype(np.float32)
    return _score(errors.reshape(len(errors), -1) @ weights, xp)


def squared_error_of_score(score: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """The mean squared error of 8 bits that goes with a score on photographs; it falls tenfold every 48 points.

    The constants are this project's own: at a score of 76 the error is 3.72 decades below 255**2, and a decade has 48
    points, for which `python benchmarks/metric_units.py kodak` printed 3.706 and 47.1 (at 61e1511).
    """
    return 255**2 * 10 ** -(3.72 + (score - 76) / 48)


def _score(error, xp):
    """Weighted sum of errors to the scale of human opinions (the reference's fit)."""
    error = error * 0.9562382616834844
    error = 2.326765642916932 * error - 0.020884521182843837 * error**2 + 6.248496625763138e-05 * error**3
    return 100 - 10 * _root(error, 0.6276336467831387, xp)


def _root(x, power, xp):
    """`x ** power` of what is not negative, 0 below 0; without the infinite gradient at 0."""
    positive = x > 1e-32
    return xp.where(positive, xp.where(positive, x, 1.0) ** power, 0.0)


def _linear(x, xp):
    """SRGB in [0, 1] to linear light."""
    low = x <= 0.04045
    return xp.where(low, x / 12.92, _power((xp.where(low, 1.0, x) + 0.055) / 1.055, 2.4, xp))


def _xyb(rgb, xp):
    """Linear RGB [B, 3, H, W] to the opponent colours X, Y, B - Y of libjxl, moved and scaled to positive numbers."""

    def absorbed(red, green, blue):
        light = red * rgb[:, 0] + green * rgb[:, 1] + blue * rgb[:, 2] + _BIAS
        return _power(xp.maximum(light, np.float32(1e-9)), 1 / 3, xp) - np.cbrt(_BIAS)

    long, middle, short = (absorbed(*row) for row in _ABSORBANCE)
    x, y = 0.5 * (long - middle), 0.5 * (long + middle)
    return xp.stack([x * 14 + 0.42, y + 0.01, short - y + 0.55], 1)


def _power(x, exponent, xp):
    """`x ** exponent` of positive numbers; XLA takes 3 to 12 times as long for a power or a cube root."""
    return x ** np.float32(exponent) if xp is np else jnp.exp(exponent * jnp.log(x))


def _errors(a, b, xp):
    """Means and 4-norms of the three maps of errors of one scale: XYB [B, 3, h, w] twice to [B, 3, 2, 3].

    The SSIM's loss is written with the difference of the pictures, which float32 keeps where they hardly differ.
    """
    maps = [_surrounded(x, xp) for x in (a, b, a * a + b * b, (a - b) ** 2)]
    mean_a, mean_b, squares, differences = (x.reshape(a.shape) for x in blurred(maps))
    apart = (mean_a - mean_b) ** 2
    structure = (differences - apart) / (squares - mean_a**2 - mean_b**2 + _C2)
    loss = xp.maximum(apart + structure - apart * structure, 0.0)
    edge_a, edge_b = xp.abs(a - mean_a), xp.abs(b - mean_b)
    edges = (edge_b - edge_a) / (1 + edge_a)
    errors = (loss, xp.maximum(edges, 0.0), xp.maximum(-edges, 0.0))
    means = xp.stack([error.mean((2, 3)) for error in errors], -1)
    fourth = xp.stack([(error**4).mean((2, 3)) for error in errors], -1)
    return xp.stack([means, _root(fourth, 0.25, xp)], 2)


def _halve(x, xp):
    """Means of 2x2 pixels, [B, C, H, W] to [B, C, ceil(H/2), ceil(W/2)]; an odd side's last pixels count twice."""
    x = xp.pad(x, ((0, 0), (0, 0), (0, x.shape[2] % 2), (0, x.shape[3] % 2)), mode="edge")
    return 0.25 * (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2])


def _surrounded(x, xp):
    """Maps [B, C, H, W] to [B * C, H + 10, W + 10, 1], for windows at every pixel.

    As in the package `ssimulacra2`, above and below a picture there is its mirror, beyond its sides are zeros.
    """
    beyond = TAPS // 2
    x = xp.pad(x.reshape(-1, *x.shape[2:], 1), ((0, 0), (beyond, beyond), (0, 0), (0, 0)), mode="symmetric")
    return xp.pad(x, ((0, 0), (0, 0), (beyond, beyond), (0, 0)))
