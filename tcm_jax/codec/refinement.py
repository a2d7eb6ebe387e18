"""Latents of a picture that are searched for, tile by tile, instead of computed (docs/effort.md); this needs JAX.

Tiles are refined one after the other. Around a tile's own latents lie those that stay, its neighbours', which are final
or the encoder's; so every choice is made beside its real neighbours, and there is no seam.
"""

from typing import Any

import numpy as np

from tcm_jax.codec.annealing import iterate, schedule
from tcm_jax.codec.effort import TUNES, Effort
from tcm_jax.codec.tiled_network import TiledNetwork, cut
from tcm_jax.codec.tiles import Grid, Span, part, tiles
from tcm_jax.errors import ImageError
from tcm_jax.images.metrics import MS_SSIM_MIN_SIDE
from tcm_jax.model.config import LATENT_STRIDE, padded_size

SIDE, HALO, SEEN = 768, 128, 64  # pixels: of a tile, around its own latents, and around them what the loss counts
SEED = 0  # of the noise that draws symbols


def refine(
    network: TiledNetwork,
    picture: np.ndarray,
    level: np.ndarray | None,
    lam: float,
    effort: Effort,
    y: list[np.ndarray],
    context: list[Grid],
    details: int = 0,
) -> float:
    """Replaces the slices of `y` [h, w, channels], in place, by ones that round to better symbols.

    `picture` is uint8 [H, W] or [H, W, 3], `context` the latent means and scales, `lam` as `lambda_of` gives it,
    `details` how many detail slices code what the latents miss; `effort.tune` is one of TUNES. The symbols of a tile
    stay where the search found none with a lower loss. Returns the sum of lambda times distortion plus bits, a pixel,
    of the tiles' own surroundings: for one tile, what the picture costs without z. The same arguments give the same
    symbols on one machine. Raises ImageError for a picture too small for MS-SSIM.
    """
    _check(picture, effort)
    size = padded_size(*picture.shape[:2])
    covering, total = list(tiles(size, (SIDE, SIDE), HALO)), 0.0
    for index, (rows, columns) in enumerate(covering):

        def report(step: int, loss: Any, index: int = index) -> None:
            if effort.on_step is not None:
                effort.on_step(index * effort.steps + step + 1, len(covering) * effort.steps, float(loss))

        tile = _tile(picture, context, rows, columns)
        pieces = [np.asarray(part(slice_, rows, columns, LATENT_STRIDE)) for slice_ in y]
        fixed = {"lam": np.float32(lam), "grey": np.bool_(picture.ndim == 2), "key": np.array([SEED, index], np.uint32)}
        loss, found = _refined_tile(
            network, tile, np.concatenate(pieces, axis=-1), fixed, level, details, effort, report
        )
        total += loss
        whole = rows.kept(LATENT_STRIDE), columns.kept(LATENT_STRIDE)
        inner = rows.inner(LATENT_STRIDE), columns.inner(LATENT_STRIDE)
        for slice_, better in zip(y, np.split(found[inner], len(y), axis=-1), strict=True):
            slice_[whole] = better
    return total


def _refined_tile(network, tile, y, fixed, level, details, effort, report) -> tuple[float, np.ndarray]:
    """(loss, latents that round to the better symbols) of a tile; latents that are not free stay."""
    tune, nothing = TUNES.index(effort.tune), np.zeros_like(y)

    def step(state, number: int, hard: bool):
        settings = fixed | schedule(number, effort.steps) | {"step": np.int32(number), "hard": np.bool_(hard)}
        return iterate(network.config, network.params, tune, details, tile, state, settings, level)

    state = {"y": y, "m": nothing, "v": nothing}
    first, start, _ = step(state, 0, hard=True)
    for number in range(effort.steps):
        loss, _, state = step(state, number, hard=False)
        report(number, loss)
    last, end, _ = step(state, effort.steps - 1, hard=True)
    better = float(last) < float(first)  # nor where it is not a number
    return (float(last), np.asarray(end)) if better else (float(first), np.asarray(start))


def _tile(picture: np.ndarray, context: list[Grid], rows: Span, columns: Span) -> dict[str, Any]:
    """What stays of a tile, as `annealing.iterate` takes it; padding and far surroundings do not count."""
    height, width = picture.shape[:2]
    colour = cut(picture if picture.ndim == 3 else picture[..., None], rows, columns)
    means, scales = (part(grid, rows, columns, LATENT_STRIDE) for grid in context)
    return {
        "picture": colour if colour.shape[-1] == 3 else np.repeat(colour, 3, axis=-1),
        "counted": _inside(_counted(rows, height), _counted(columns, width)),
        "means": means,
        "scales": scales,
        "free": _inside(*(_positions(span, span.first, span.last) for span in (rows, columns))),
        "rated": _inside(*(_positions(span, span.first - SEEN, span.last + SEEN) for span in (rows, columns))),
    }


def _counted(span: Span, length: int) -> np.ndarray:
    """Which pixels of a tile along an axis the loss counts, bool; the picture ends at `length`."""
    at = np.arange(span.start, span.stop)
    return (at >= span.first - SEEN) & (at < min(span.last + SEEN, length))


def _positions(span: Span, first: int, last: int) -> np.ndarray:
    """Which latents of a tile along an axis lie in first .. last, bool."""
    at = np.arange(span.start, span.stop, LATENT_STRIDE)
    return (at >= first) & (at < last)


def _inside(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return (rows[:, None] & columns)[..., None]


def _check(picture: np.ndarray, effort: Effort) -> None:
    if effort.tune == "ms-ssim" and min(padded_size(*picture.shape[:2])) < MS_SSIM_MIN_SIDE:
        raise ImageError("an encoder is tuned for ms-ssim where a picture has more than 128 pixels a side")
