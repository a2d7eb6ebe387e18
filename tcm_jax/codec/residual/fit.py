"""What the encoder finds out about a picture: predictors by block, what errors to expect, and how they are spread."""

import dataclasses
import functools

import numpy as np

from tcm_jax.codec.residual.tables import EXPONENTS, WIDTHS, level_of, squared_width
from tcm_jax.entropy import pixel_coder, pixel_moments
from tcm_jax.entropy.pixel_coder import LEVELS, PHASES, U_FRACTION
from tcm_jax.entropy.pixel_prediction import ACTIVITIES, BIAS, BLOCK, FRACTION, MARGIN, TAPS

ORDER = (1, 0, 2)  # of coding: green, red, blue
MOST_CLASSES = 16
_BLOCKS_PER_CLASS = 64
_ROUNDS = 6
_RIDGE = 0.05  # squared levels a pixel: keeps coefficients small that make no difference
_FLOOR = 0.05  # squared levels: errors below it do not count
_SAMPLE = 1 << 20  # pixels that a larger picture's model is fitted to
_BAND = 4 * BLOCK  # rows of them that hang together
_FITTED = 50_000  # samples of a channel whose errors are looked at
# Coefficients are sought for differences, so that a prediction moves with the brightness: the first tap of a group has
# what the others leave of the group's sum, 1 for samples of the channel (x_hat's among them), 0 for another channel's.
_OWN, _BEFORE, _FIRST = (2, 0, 1, 3, 4, 5, 6, 7, 8), (12, 9, 10, 11, 13, 14), (18, 15, 16, 17, 19, 20)
_HAT = (21, 22, 23, 24, 25)
_GROUPS = (((*_OWN, *_HAT), 1), (_BEFORE, 0), (_FIRST, 0))


@dataclasses.dataclass(frozen=True)
class Model:
    """What a file says of a picture's residual.

    Attributes:
        step: of the quantizer, 1 .. 255; 1 is exact.
        coefs: predictors, int32 [channels, classes, TAPS], in units of 2**-FRACTION.
        weights: of what the expected error is a sum of, int32 [channels, ACTIVITIES], in 2**-U_FRACTION.
        shapes: uint8 [channels * LEVELS, 2]: width and exponent of each context's distribution.
        classes: of each block of 16x16 pixels, uint8 [rows, columns].
    """

    step: int
    coefs: np.ndarray
    weights: np.ndarray
    shapes: np.ndarray
    classes: np.ndarray


def planes_of(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, channels] to [channels, H, W] in the order of coding."""
    planes = picture.transpose(2, 0, 1)
    return planes[list(ORDER)] if len(planes) == 3 else planes


def fit(picture: np.ndarray, x_hat: np.ndarray | None, step: int) -> Model:
    """The model of a picture, uint8 [H, W, 1 or 3], with the decoded latents `x_hat` or without."""
    height, width, channels = picture.shape
    rows = _sampled_rows(height, width)
    sample = np.ascontiguousarray(picture[rows])
    sampled_hat = None if x_hat is None else np.ascontiguousarray(x_hat[rows])
    moments, pixels = _moments(sample, sampled_hat), _block_pixels(*sample.shape[:2])
    coefs, classes = _predictors(moments, pixels, int(np.clip(len(pixels) // _BLOCKS_PER_CLASS, 1, MOST_CLASSES)))
    del moments
    shape = -(-sample.shape[0] // BLOCK), -(-width // BLOCK)
    model = Model(
        step,
        _rounded(coefs),
        np.zeros((channels, ACTIVITIES), np.int32),
        np.zeros((channels * LEVELS, 2), np.uint8),
        classes.reshape(shape).astype(np.uint8),
    )
    decoded = sample.copy()
    symbols, contexts = code(decoded, sampled_hat, model)
    quarters = step * (PHASES * symbols - (contexts & PHASES - 1).astype(np.int32))
    model = dataclasses.replace(model, weights=_weights(decoded, sampled_hat, quarters))
    symbols, contexts = code(sample.copy(), sampled_hat, model)
    model = dataclasses.replace(model, shapes=_shapes(symbols, contexts, step, channels))
    if len(rows) < height:
        model = dataclasses.replace(model, classes=_classes(picture, x_hat, coefs))
    return model


def buffers(channels: int, width: int) -> tuple[np.ndarray, ...]:
    """Rows of samples, of errors and of x_hat that the coder goes on from, and memory for the sums of a row."""
    shape = (channels, 3, width + 2 * MARGIN)
    return *(np.zeros(shape, np.int32) for _ in range(3)), np.zeros((2, width), np.int32)


def code(
    picture: np.ndarray,
    x_hat: np.ndarray | None,
    model: Model,
    rows: tuple[int, int] | None = None,
    state: tuple[np.ndarray, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(symbols int32, contexts uint16) of some rows, [rows * channels, W]; the picture becomes what is decoded."""
    height, width, channels = picture.shape
    first, last = rows or (0, height)
    state = state or buffers(channels, width)
    symbols = np.empty(((last - first) * channels, width), np.int32)
    contexts = np.empty(symbols.shape, np.uint16)
    below = picture if x_hat is None else x_hat
    pixel_coder.residuals(picture, picture, below, x_hat is not None, first, last, model.step, *state, model.coefs,
                          model.weights, model.classes, level_of(), symbols, contexts)  # fmt: skip
    return symbols, contexts


def _sampled_rows(height: int, width: int) -> np.ndarray:
    """Rows of a picture that stand for all: bands at equal distances."""
    bands = max(1, _SAMPLE // (width * _BAND))
    if height <= bands * _BAND:
        return np.arange(height)
    starts = np.arange(bands) * (height - _BAND) // max(1, bands - 1) // BLOCK * BLOCK
    return (starts[:, None] + np.arange(_BAND)).ravel()


def _block_pixels(height: int, width: int) -> np.ndarray:
    sizes = [np.minimum(BLOCK, side - np.arange(0, side, BLOCK)) for side in (height, width)]
    return np.outer(*sizes).ravel().astype(float)


def _moments(picture: np.ndarray, x_hat: np.ndarray | None) -> np.ndarray:
    """Sums of products of the taps, and last the sample, over each block; [channels, blocks, TAPS + 1, TAPS + 1]."""
    channels = picture.shape[2]
    rows, columns = -(-picture.shape[0] // BLOCK), -(-picture.shape[1] // BLOCK)
    planes = _padded(picture)
    hats = planes[:, :1, :1].copy() if x_hat is None else _padded(x_hat)
    out = np.empty((channels, rows, columns, TAPS + 1, TAPS + 1))
    for channel in range(channels):
        pixel_moments.moments(planes, hats, x_hat is not None, channel, out[channel])
    return out.reshape(channels, rows * columns, TAPS + 1, TAPS + 1)


def _padded(picture: np.ndarray) -> np.ndarray:
    """The picture as int32 [channels, 2 + H + 1, W + 2 MARGIN] around 0, edges repeated."""
    return np.pad(planes_of(picture).astype(np.int32) - 128, ((0, 0), (2, 1), (MARGIN, MARGIN)), mode="edge")


@functools.cache
def _differences(with_hat: bool) -> np.ndarray:
    """[TAPS + 1, free + 1]: free coefficients, and a last 1, to those of all taps and the sample, of an error."""
    dependent = {first for (first, *_), _ in _GROUPS} | (set() if with_hat else set(_HAT))
    free = [tap for tap in range(TAPS) if tap not in dependent]
    matrix = np.zeros((TAPS + 1, len(free) + 1))
    matrix[free, np.arange(len(free))] = 1
    for (first, *others), total in _GROUPS:
        matrix[first, :-1] = [-1.0 if tap in others else 0.0 for tap in free]
        matrix[first, -1] = -total
    matrix[TAPS, -1] = 1
    return matrix


def _solved(moments: np.ndarray, pixels: float) -> np.ndarray:
    """The coefficients [TAPS] of the smallest squared error, of moments summed over `pixels`."""
    basis = _differences(bool(moments[_HAT[0], _HAT[0]]))
    reduced = basis.T @ moments @ basis
    free = np.linalg.solve(reduced[:-1, :-1] + (_RIDGE * pixels + 1e-9) * np.eye(len(reduced) - 1), reduced[:-1, -1])
    return (basis @ np.append(free, -1))[:TAPS]


def _squared_errors(moments: np.ndarray, coefs: np.ndarray) -> np.ndarray:
    """Sum of squared errors of each block, from its moments, by each of `coefs` [classes, TAPS]: [blocks, classes]."""
    error = np.concatenate([-coefs, np.ones((len(coefs), 1))], 1)
    product = np.matmul(moments.reshape(-1, TAPS + 1), error.T).reshape(len(moments), TAPS + 1, len(error))
    return np.maximum(np.einsum("ntk,kt->nk", product, error), 0)


def _predictors(moments: np.ndarray, pixels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(coefs [channels, classes, TAPS], class of each block): as k-means, with the logarithm of errors as the cost."""
    channels, blocks = moments.shape[:2]
    common = [_solved((m / pixels[:, None, None]).sum(0), blocks) for m in moments]
    pairs = zip(moments, common, strict=True)
    error = np.stack([_squared_errors(m, c[None])[:, 0] / pixels for m, c in pairs])
    chosen = np.empty(blocks, np.int64)
    chosen[np.argsort(np.log(error + _FLOOR).sum(0), kind="stable")] = np.arange(blocks) * classes // blocks
    coefs = np.repeat(np.stack(common)[:, None], classes, axis=1)
    for _ in range(_ROUNDS if classes > 1 else 0):
        for k in range(classes):
            mine = np.flatnonzero(chosen == k)
            for channel in range(channels if mine.size else 0):
                weight = 1 / (error[channel, mine] + _FLOOR)
                total = np.tensordot(weight, moments[channel, mine], 1)
                coefs[channel, k] = _solved(total, float(weight @ pixels[mine]))
        chosen, error = _choice(moments, pixels, coefs)
    return coefs, chosen


def _choice(moments: np.ndarray, pixels: np.ndarray, coefs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the best class of each block, its mean squared errors [channels, blocks])."""
    pairs = zip(moments, coefs, strict=True)
    errors = np.stack([_squared_errors(m, c) / pixels[:, None] for m, c in pairs])
    best = np.log(errors + _FLOOR).sum(0).argmin(1)
    return best, errors[:, np.arange(len(best)), best]


def _classes(picture: np.ndarray, x_hat: np.ndarray | None, coefs: np.ndarray) -> np.ndarray:
    """Class of every block of a picture, band by band; uint8 [rows, columns]."""
    found = []
    for top in range(0, picture.shape[0], _BAND):
        band = np.ascontiguousarray(picture[top : top + _BAND])
        band_hat = None if x_hat is None else np.ascontiguousarray(x_hat[top : top + _BAND])
        best, _ = _choice(_moments(band, band_hat), _block_pixels(*band.shape[:2]), coefs)
        found.append(best.reshape(-(-band.shape[0] // BLOCK), -1))
    return np.concatenate(found).astype(np.uint8)


def _rounded(coefs: np.ndarray) -> np.ndarray:
    """Coefficients as int32 in units of 2**-FRACTION; sums of groups are kept."""
    coefs = np.rint(coefs * (1 << FRACTION))
    for (first, *others), total in _GROUPS:
        coefs[..., first] = (total << FRACTION) - coefs[..., others].sum(-1)
    return np.clip(coefs, -32768, 32767).astype(np.int32)


def _weights(decoded: np.ndarray, x_hat: np.ndarray | None, quarters: np.ndarray) -> np.ndarray:
    """What expects the absolute errors best, relatively, without negative weights; int32 [channels, ACTIVITIES].

    `quarters` are the errors in quarters of a level, as the coder keeps them, int32 [H * channels, W].
    """
    height, width, channels = decoded.shape
    error = np.abs(quarters).reshape(height, channels, width).transpose(1, 0, 2)
    error, value = _edged(error), _edged(planes_of(decoded))
    hats = None if x_hat is None else _edged(planes_of(x_hat))
    weights = np.zeros((channels, ACTIVITIES), np.int32)
    stride = -(-height * width // _FITTED)
    for channel in range(channels):
        sums = [grid.ravel()[::stride] for grid in _activities(error, value, hats, channel)]
        actual = _at(error[channel], 0, 0).ravel()[::stride]
        found = _least_squares(np.stack(sums, 1), actual)
        weights[channel] = np.clip(np.rint(found * (4 << U_FRACTION)), 0, 32767)
    return weights


def _edged(planes: np.ndarray) -> np.ndarray:
    return np.pad(planes.astype(np.float32), ((0, 0), (2, 1), (2, 2)), mode="edge")


def _at(plane: np.ndarray, row: int, column: int) -> np.ndarray:
    """The plane inside of an edged one, moved by so many rows and columns."""
    return plane[2 + row : plane.shape[0] - 1 + row, 2 + column : plane.shape[1] - 2 + column]


def _activities(error: np.ndarray, value: np.ndarray, hats: np.ndarray | None, channel: int) -> list[np.ndarray]:
    """What the expected error of a channel is a sum of, ACTIVITIES grids."""
    own, samples = error[channel], value[channel]
    places = [(0, -1), (0, -2), (-1, 0), (-1, -1), (-1, 1), (-2, 0)]
    grids = [_at(own, *place) for place in places]
    nothing = np.zeros_like(grids[0])
    for before in (channel - 1, channel - 2):
        other = error[max(before, 0)]
        pair = [_at(other, 0, 0), _at(other, 0, -1) + _at(other, 0, 1)]
        grids += pair if before >= 0 else [nothing, nothing]
    if hats is not None:
        x_hat = hats[channel]
        grids.append(abs(_at(x_hat, 0, -1) - _at(x_hat, 0, 1)) + abs(_at(x_hat, -1, 0) - _at(x_hat, 1, 0)))
    else:
        grids.append(nothing)
    north = _at(samples, -1, 0)
    grids.append(abs(north - _at(samples, -1, -1)) + abs(north - _at(samples, -1, 1)))
    other = value[max(channel - 1, 0)]
    here = _at(other, 0, 0)
    grids.append(abs(here - _at(other, 0, -1)) + abs(here - _at(other, 0, 1)) if channel else nothing)
    return [*grids, np.full_like(nothing, BIAS)]


def _least_squares(grids: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Weights of `grids` that give `actual` with the smallest squared relative error; none is below 0."""
    expected, found = grids[:, :6].mean(1) + 2, np.zeros(ACTIVITIES)
    for _ in range(4):
        scale = 1 / (expected + 1)
        scaled = (grids * scale[:, None]).astype(np.float64)
        products, targets = scaled.T @ scaled + 1e-5 * len(grids) * np.eye(ACTIVITIES), scaled.T @ (actual * scale)
        used = np.ones(ACTIVITIES, bool)
        while True:
            found = np.zeros(ACTIVITIES)
            found[used] = np.linalg.solve(products[np.ix_(used, used)], targets[used])
            if (found >= 0).all():
                break
            used &= found > 0
        expected = np.maximum(grids @ found, 0.1)
    return found


def _shapes(symbols: np.ndarray, contexts: np.ndarray, step: int, channels: int) -> np.ndarray:
    """The distribution that codes the symbols of each context in the fewest bits; uint8 [contexts, 2]."""
    farthest = 1024
    z = np.arange(-farthest, farthest + 1)
    squared = np.array([squared_width(i) for i in range(WIDTHS)], np.float64)[:, None]
    ratio = np.log(squared / (squared + 16.0 * z * z))
    mass = np.maximum(np.array(EXPONENTS)[:, None, None] * ratio, -16).reshape(-1, len(z)).astype(np.float32)
    of_phase = [np.log(np.exp(mass[:, (z + step * phase) % (4 * step) == 0]).sum(-1)) for phase in range(PHASES)]
    context = contexts.ravel().astype(np.int64)
    place = np.clip(step * (4 * symbols.ravel().astype(np.int64) - (context & 3)), -farthest, farthest) + farthest
    count = channels * LEVELS
    seen = np.bincount((context >> 2) * len(z) + place, minlength=count * len(z)).reshape(count, len(z))
    phases = np.bincount(context, minlength=count * PHASES).reshape(count, PHASES)
    used = np.flatnonzero(seen.any(1))
    cost = np.stack(of_phase, 1) @ phases[used].T - mass @ seen[used].T.astype(np.float32)
    shapes = np.zeros((count, 2), np.uint8)
    shapes[used, 1], shapes[used, 0] = np.divmod(cost.argmin(0), WIDTHS)
    return shapes
