"""Integer probability tables: Gaussians or fitted ones for y, and those of the factorized prior for z.

Tables 0..63 are zero-mean Gaussians, one for each step of `scale_table`; tables 64.. are the channels of the
factorized prior. They are computed once, when weights are exported, and stored with them.
"""

import heapq
import math

import numpy as np

from tcm_jax.entropy.range_tables import PRECISION, RangeTables
from tcm_jax.errors import WeightsError

# float32(torch.exp(torch.linspace(log 0.11, log 256, 64))), the reference's table; NumPy's own differs in the last bit.
_SCALES = (
    0.11, 0.124404095, 0.14069438, 0.1591178, 0.1799537, 0.20351797, 0.23016793, 0.2603076, 0.29439393, 0.33294374,
    0.37654155, 0.4258483, 0.4816116, 0.5446769, 0.6160004, 0.69666344, 0.787889, 0.89106023, 1.0077413, 1.1397015,
    1.2889413, 1.4577235, 1.6486071, 1.8644862, 2.108634, 2.384752, 2.6970267, 3.0501928, 3.4496043, 3.9013174,
    4.4121814, 4.9899406, 5.643354, 6.382331, 7.218075, 8.163255, 9.2322035, 10.441129, 11.808356, 13.354617,
    15.103355, 17.081085, 19.317795, 21.84739, 24.708223, 27.943682, 31.602804, 35.741077, 40.421238, 45.714252,
    51.70038, 58.470337, 66.12683, 74.78591, 84.578835, 95.654144, 108.17973, 122.34544, 138.36617, 156.48474,
    176.9758, 200.15018, 226.35905, 256.0,
)  # fmt: skip
_UNIT = 1 << 40  # probabilities are rounded to multiples of 2**-40, so that ties are ties on every machine
_REGULAR = _UNIT >> 18  # below 2**-18 a symbol is cheaper as an escape; docs/experiments/2026-11-26-tables.md
REACH = 1 << 11  # regular symbols are found within -2048 .. 2048, those of a channel up to 2047
_PRIOR_COUNT = 1000  # symbols that a fitted table has seen of its Gaussian besides


def scale_table() -> np.ndarray:
    """The 64 standard deviations of the Gaussian tables, float32, log spaced from 0.11 to 256."""
    return np.array(_SCALES, np.float32)


def build_indexes(scales: np.ndarray) -> np.ndarray:
    """Gaussian table of each symbol: how many of the first 63 scales are smaller than its scale.

    Args:
        scales: float32, any shape, before any lower bound; any value, NaN counts as the largest.

    Returns:
        int32 in [0, 63], same shape.
    """
    return np.searchsorted(scale_table()[:-1], np.asarray(scales, np.float32)).astype(np.int32)


def build_tables(factorized: dict[str, np.ndarray], counts: np.ndarray | None = None) -> RangeTables:
    """All tables of a model: 64 Gaussians or what was counted, then one for each channel of the factorized prior.

    Every table has 16 bits; a symbol of probability below 2**-18 at either end is left to the escape symbol; -1, 0 and
    1 are always regular. The symbol of a hyper-latent z is round(z - median).

    Args:
        factorized: `matrices_0..4`, `biases_0..4`, `factors_0..3` and `quantiles` of `entropy.factorized`.
        counts: how often each of the symbols -REACH ... REACH was met where one of the 64 tables is chosen, int64
            [64, 2 * REACH + 1]: residuals have heavier tails than Gaussians. None: Gaussians.

    Raises:
        WeightsError: the prior is not finite.
    """
    rows, offsets = [], []
    conditional = _gaussians() if counts is None else _fitted(counts)
    for low, masses in (*conditional, *_channels(factorized)):
        low, masses = _regular(low, masses)
        frequencies = _frequencies([*masses, max(0, _UNIT - sum(masses))])
        rows.append(np.concatenate([[-PRECISION, 0], np.cumsum(frequencies)]))
        offsets.append(low)
    return RangeTables(np.concatenate(rows).astype(np.int32), np.array(offsets, np.int32))


def gaussian_scales() -> np.ndarray:
    """Standard deviation that each of the 64 Gaussian tables is made for, float64.

    The geometric middle of the scales that choose the table: their own upper end, as in the reference, costs more
    (benchmarks/table_scales.py).
    """
    scales = scale_table().astype(np.float64)
    return np.sqrt(scales * np.append(scales[:1], scales[:-1]))


def _gaussians():
    """Lowest symbol and masses (in units of 2**-40) of each Gaussian table."""
    for scale in gaussian_scales().tolist():
        reach = math.ceil(6 * scale) + 1
        tails = [0.5 * math.erfc((k - 0.5) / scale / math.sqrt(2)) for k in range(reach + 2)]
        half = [round((tails[k] - tails[k + 1]) * _UNIT) for k in range(reach + 1)]
        yield -reach, [*half[:0:-1], *half]


def _fitted(counts: np.ndarray):
    """Lowest symbol and masses (in units of 2**-40) of each table by `counts` and `_PRIOR_COUNT` of its Gaussian."""
    for (low, masses), counted in zip(_gaussians(), counts, strict=True):
        gaussian = np.zeros(counted.size)
        gaussian[REACH + low :][: len(masses)] = masses
        mixed = np.rint((counted * float(_UNIT) + _PRIOR_COUNT * gaussian) / (counted.sum() + _PRIOR_COUNT))
        # Up to the first rare symbol on either side: one that was met far out must not make all before it regular.
        rare = np.flatnonzero(mixed < _REGULAR)
        first = rare[rare < REACH - 1].max(initial=-1) + 1
        last = rare[rare > REACH + 1].min(initial=counted.size) - 1
        yield int(first) - REACH, mixed[first : last + 1].astype(np.int64).tolist()


def _channels(factorized: dict[str, np.ndarray]):
    """Lowest symbol and masses (in units of 2**-40) of each channel of the factorized prior."""
    from tcm_jax.entropy import factorized as prior  # imports JAX, without which a decoder may do

    params = {name: np.asarray(value, np.float64) for name, value in factorized.items()}
    with np.errstate(all="ignore"):  # absurd weights overflow; what is not finite is refused below
        edges = params["quantiles"][:, :, 1:2] + (np.arange(-REACH, REACH + 1) - 0.5)
        logits = prior.logits_cumulative(params, edges)[:, 0]
        lower, upper = logits[:, :-1], logits[:, 1:]
        sign = np.where(lower + upper > 0, -1.0, 1.0)  # on the side where the sigmoid is small and exact
        masses = np.abs(_sigmoid(sign * upper) - _sigmoid(sign * lower))
    if not all(np.all(np.isfinite(array)) for array in (*params.values(), masses)):
        raise WeightsError("the factorized prior of the weights is not finite; the file is damaged or training failed")
    for row in np.rint(masses * _UNIT).astype(np.int64):
        yield -REACH, row.tolist()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))


def _regular(low: int, masses: list[int]) -> tuple[int, list[int]]:
    """The stretch of symbols that is worth a place in the table."""
    worth = [low + i for i, mass in enumerate(masses) if mass >= _REGULAR]
    first, last = min([-1, *worth]), max([1, *worth])
    return first, masses[first - low : last - low + 1]


def _frequencies(masses: list[int]) -> list[int]:
    """Integers of at least 1 that sum to 2**16 and code `masses` in about the fewest bits; ties go to the lowest."""
    frequencies = [max(1, (mass << PRECISION) // _UNIT) for mass in masses]
    missing = (1 << PRECISION) - sum(frequencies)
    step = 1 if missing > 0 else -1

    def cost(i: int) -> tuple[float, int]:
        return -masses[i] * math.log1p(step / frequencies[i]), i

    heap = [cost(i) for i, frequency in enumerate(frequencies) if frequency + step > 0]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        i = heapq.heappop(heap)[1]
        frequencies[i] += step
        if frequencies[i] + step > 0:
            heapq.heappush(heap, cost(i))
    return frequencies
