"""The latent means and scales of a picture, which every slice reads: twice as many values as y has."""

from collections.abc import Callable, Iterator, Sequence

from tcm_jax.codec.tiles import ENTROPY_HALO, Grid, HeldRows, Span, over_tiles, part, rows_of_tiles, spans
from tcm_jax.model.config import HYPER_STRIDE, LATENT_STRIDE

HELD_BYTES = 1 << 29  # of means and scales up to which they are held: 70 megapixels of the embedded model


class LatentContext:
    """Means and scales, held, or for a large picture computed anew for each slice, by rows of tiles of `side`.

    `hyper` gives both, [h, w, channels], of a tile of z [h', w', C].
    """

    def __init__(self, hyper: Callable[[Grid], Sequence[Grid]], z: Grid, side: int, channels: int):
        self._hyper, self._z, self._side = hyper, z, side
        self.size = z.shape[0] * HYPER_STRIDE, z.shape[1] * HYPER_STRIDE  # of the picture, padded, in pixels
        values = 2 * channels * (self.size[0] // LATENT_STRIDE) * (self.size[1] // LATENT_STRIDE)
        small = 4 * values <= HELD_BYTES or len(spans(self.size[0], side, ENTROPY_HALO)) == 1
        self._grids: list[Grid] | None = None
        if small:
            self._grids = self.whole()

    def whole(self) -> list[Grid]:
        """[means, scales] of the whole picture."""
        if self._grids is not None:
            return self._grids
        inputs, sides = [(self._z, HYPER_STRIDE)], (self._side, self._side)
        return over_tiles(self._hyper, self.size, sides, ENTROPY_HALO, inputs, [LATENT_STRIDE] * 2)

    def rows(self) -> Iterator[tuple[Span, list[Grid]]]:
        """Each row of tiles from the top down, and [means, scales] of all that it covers."""
        height, sides = self.size[0], (self._side, self._side)
        if self._grids is not None:
            across = Span(0, self.size[1], 0, self.size[1])
            for rows in spans(height, self._side, ENTROPY_HALO):
                yield rows, [part(grid, rows, across, LATENT_STRIDE) for grid in self._grids]
            return
        held, inputs = HeldRows(height, self._side), [(self._z, HYPER_STRIDE)]
        for kept, grids in rows_of_tiles(self._hyper, self.size, sides, ENTROPY_HALO, inputs, [LATENT_STRIDE] * 2):
            for rows in held.add(kept, grids):
                yield rows, held.cut(rows.start, rows.stop)
