"""What latents are spared: blocks at which they fail and which the layer codes in few bits, such as text and patterns.

There the latents get a smooth picture instead, which costs them next to nothing.
"""

import numpy as np

from tcm_jax.model.config import LATENT_STRIDE

_REPEATING = 0.5  # share of a block's pixels that equal a neighbour
_FAILED = 0.125  # of the squared error below which bits are worth more
_LEAST = 0.02  # share of such blocks below which the picture stays


def spared(colour: np.ndarray, x_hat: np.ndarray, floor: float) -> np.ndarray | None:
    """The picture, uint8 [H, W] or [H, W, 3], for the latents; None if it is better left as it is.

    `x_hat` is what latents of the whole picture give, `floor` the squared error below which bits are worth more.
    """
    left = (block_errors(colour, x_hat) > _FAILED * floor) & (_repeating(colour) > _REPEATING)
    return _filled(colour, left) if left.mean() > _LEAST else None


def block_errors(colour: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    """Mean squared error of each block, float64 [rows, columns]."""
    rows = [
        _means(np.square(colour[top : top + LATENT_STRIDE].astype(np.int32) - x_hat[top : top + LATENT_STRIDE]))
        for top in range(0, len(colour), LATENT_STRIDE)
    ]
    return np.stack(rows).reshape(*_grid(colour), -1).mean(-1)


def _repeating(colour: np.ndarray) -> np.ndarray:
    """Share of each block's pixels that equal one on the left, above, two to the left, or above on the left."""
    rows = []
    for top in range(0, len(colour), LATENT_STRIDE):
        first = max(top - 1, 0)
        part = colour[first : top + LATENT_STRIDE]
        part = part if part.ndim == 3 else part[..., None]
        same = np.zeros(part.shape[:2], bool)
        for row, column in ((0, 1), (1, 0), (0, 2), (1, 1)):
            before = part[: len(part) - row, : max(part.shape[1] - column, 0)]
            same[row:, column:] |= (part[row:, column:] == before).all(-1)
        rows.append(_means(same[top - first :]))
    return np.stack(rows)


def _filled(colour: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The picture with a smooth one at the blocks that are `left`, from the means of the others."""
    means = np.stack([_means(colour[top : top + LATENT_STRIDE]) for top in range(0, len(colour), LATENT_STRIDE)])
    means = means.reshape(*left.shape, -1)
    smooth = _pull_push(np.where(left[..., None], 0, means), (~left).astype(np.float64))
    smooth = np.rint(smooth).astype(np.uint8).reshape(left.shape + colour.shape[2:])
    filled = colour.copy()
    for row, top in enumerate(range(0, len(colour), LATENT_STRIDE)):
        columns = np.repeat(left[row], LATENT_STRIDE)[: colour.shape[1]]
        filled[top : top + LATENT_STRIDE, columns] = np.repeat(smooth[row], LATENT_STRIDE, axis=0)[: colour.shape[1]][
            columns
        ]
    return filled


def _pull_push(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`values` [h, w, c], each times its weight in [0, 1], with the rest from ever coarser means; 0 without any."""
    if weights.shape == (1, 1):
        return values / max(weights[0, 0], 1e-9)
    rows, columns = (length + length % 2 for length in weights.shape)
    quads = np.zeros((rows, columns, values.shape[2] + 1))
    quads[: weights.shape[0], : weights.shape[1]] = np.concatenate([values, weights[..., None]], axis=2)
    sums = quads.reshape(rows // 2, 2, columns // 2, 2, -1).sum((1, 3))
    sums /= np.maximum(sums[..., -1:], 1)
    coarse = _pull_push(sums[..., :-1], sums[..., -1]).repeat(2, axis=0).repeat(2, axis=1)
    return values + (1 - weights[..., None]) * coarse[: weights.shape[0], : weights.shape[1]]


def _grid(colour: np.ndarray) -> tuple[int, int]:
    return -(-colour.shape[0] // LATENT_STRIDE), -(-colour.shape[1] // LATENT_STRIDE)


def _means(rows: np.ndarray) -> np.ndarray:
    """Means [columns, ...] of each block in a row of blocks, [rows, W, ...]."""
    columns = rows.mean(0, dtype=np.float64)
    starts = np.arange(0, len(columns), LATENT_STRIDE)
    sizes = np.diff(np.append(starts, len(columns))).reshape(-1, *[1] * (columns.ndim - 1))
    return np.add.reduceat(columns, starts) / sizes
