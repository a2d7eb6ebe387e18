"""Effort: how hard an encoder searches for latents, what for, and at which price of bits (docs/effort.md).

The file and its decoder stay: what changes is which symbols are written (refinement.py).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np

from tcm_jax.codec.scalars import plain
from tcm_jax.errors import ConfigError
from tcm_jax.weights.weights import Weights

HARDEST = 9
TUNES = ("psnr", "ms-ssim", "ssimulacra2", "visual")  # what the distortion is; a program has the number of one
_TRAINED_FOR = {"mse": "psnr", "ms_ssim": "ms-ssim", "visual": "visual"}


@dataclasses.dataclass(frozen=True)
class Effort:
    """How hard an encoder tries.

    `level` 0 to 9: 0 takes the latents as the network computes them, each further one doubles the steps of the search,
    from 8 to 2048. `tune` is what the search is for, one of TUNES: "psnr", "ms-ssim", "ssimulacra2" or "visual"; None
    is what the weights were trained for. `on_step(done, total, loss)` is called after each step: steps of the whole
    picture, and the loss of the last one.
    """

    level: int = 0
    tune: str | None = None
    on_step: Callable[[int, int, float], None] | None = None

    def __post_init__(self):
        level = plain(self.level)
        if not isinstance(level, Integral) or isinstance(level, bool) or not 0 <= int(level) <= HARDEST:
            raise ConfigError(f"the effort must be a whole number from 0 to {HARDEST}, not {self.level!r}")
        object.__setattr__(self, "level", int(level))
        if self.tune is not None and self.tune not in TUNES:
            raise ConfigError(f"an encoder is tuned for {', '.join(TUNES)}, not {self.tune!r}")

    @classmethod
    def of(cls, effort: "int | Effort") -> "Effort":
        """An `Effort` as it is, or of a level."""
        return effort if isinstance(effort, cls) else cls(effort)  # type: ignore[arg-type]

    @property
    def steps(self) -> int:
        """Steps of the search for each tile."""
        return 4 << self.level if self.level else 0


NO_EFFORT = Effort()


def tune_of(weights: Weights) -> str:
    """Which of TUNES the weights were trained for."""
    return _TRAINED_FOR.get(weights.metadata.get("distortion", "mse"), "psnr")


def lambda_of(weights: Weights, level: float | None) -> float:
    """Weight of the squared error of 8 bits against bits a pixel, at a gain level; between two levels geometric.

    `level` is None for weights of one rate.

    Raises ConfigError for weights that do not say what they were trained with.
    """
    distortion = weights.metadata.get("distortion", "mse")
    try:
        lams = [float(number) for number in weights.metadata["lambda"].split(",")]
        if len(lams) != max(weights.config.levels, 1):
            raise ValueError
        return _unit(distortion) * lambda_at(lams, level or 0.0)
    except (KeyError, ValueError):
        raise ConfigError(
            f"the weights {weights.name} do not say the lambda that they were trained with, or not one a level; "
            "`tcm convert --lambda` writes it"
        ) from None


def _unit(distortion: str) -> float:
    """What makes a lambda of weights trained for something else one of the squared error of 8 bits."""
    if distortion == "ms_ssim":
        from tcm_jax.images.metrics import squared_error_of_ms_ssim  # imports JAX

        return 1 / float(squared_error_of_ms_ssim(0.0))
    return {"mse": 1.0, "visual": 1.0}[distortion]


def lambda_at(lams: Sequence[float], level: float) -> float:
    """The lambda of a gain level from those of levels 0, 1, ...; between two levels geometric.

    Raises ValueError for a lambda that is not over 0.
    """
    return math.exp(float(np.interp(level, range(len(lams)), [math.log(lam) for lam in lams])))
