"""What a model in training makes of pictures that it does not see: real files, decoded again."""

from typing import Any

import ml_collections
import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.codec.codec import DEFAULT_QUALITY
from tcm_jax.codec.effort import lambda_at
from tcm_jax.codec.slices import gain_level
from tcm_jax.errors import ConfigError, StreamError
from tcm_jax.images.metrics import MS_SSIM_MIN_SIDE, ms_ssim
from tcm_jax.images.psnr import mean_squared_error, psnr
from tcm_jax.images.sources import ImageSource
from tcm_jax.training.config import lambdas
from tcm_jax.training.losses import DISTORTIONS, least_side
from tcm_jax.weights.weights import Weights


def validate(
    weights: Weights, pictures: ImageSource, config: ml_collections.ConfigDict
) -> tuple[dict[str, float], list[np.ndarray]]:
    """(means over the first `config.validation.pictures`, their decoded pictures uint8 [H, W, 3]).

    The means: bpp of the files, bpp_estimated by the likelihoods, psnr in dB, ms_ssim and distortion (of pictures large
    enough). Their loss is lambda times distortion plus bpp; a variable-rate network has files of quality 55, and the
    lambda of its level. Raises StreamError if a file does not decode to the encoder's picture.
    """
    codec, rows, decoded = Codec(weights, coder="native"), [], []
    lams = lambdas(config)
    quality = DEFAULT_QUALITY if config.model.levels else None
    lam = lambda_at(lams, gain_level(100 * DEFAULT_QUALITY, len(lams)))
    for i in _judged(pictures, config):
        image = pictures[i]
        encoded = codec.encode(image, quality)
        if not np.array_equal(codec.decompress(encoded.data), encoded.reconstruction):
            raise StreamError(f"{pictures.name(i)}: the decoded picture is not what the encoder reconstructs")
        rows.append(_measure(image, encoded, config.distortion))
        decoded.append(encoded.reconstruction)
    names = {name for row in rows for name in row}
    means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in sorted(names)}
    return {"loss": lam * means["distortion"] + means["bpp"], **means}, decoded


def check_pictures(pictures: ImageSource, config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError if no picture of a validation is large enough for `config.distortion`."""
    least, judged = least_side(config.distortion), _judged(pictures, config)
    if least > 1 and not any(min(pictures[i].shape[:2]) >= least for i in judged):
        raise ConfigError(
            f"none of the {len(judged)} pictures of validation.source has the {least} pixels a side that the "
            f"distortion {config.distortion} needs"
        )


def _judged(pictures: ImageSource, config: ml_collections.ConfigDict) -> range:
    """Indexes of the pictures of a validation."""
    return range(min(config.validation.pictures, len(pictures)))


def _measure(image: np.ndarray, encoded: Any, distortion: str) -> dict[str, float]:
    pixels = image.shape[0] * image.shape[1]
    row = {
        "bpp": 8 * len(encoded.data) / pixels,
        "bpp_estimated": encoded.estimated_bits / pixels,
        "mse": mean_squared_error(image, encoded.reconstruction) / 255**2,
        "psnr": psnr(image, encoded.reconstruction),
    }
    pair = [picture[None].astype(np.float32) / 255 for picture in (encoded.reconstruction, image)]
    side = min(image.shape[:2])
    if side >= MS_SSIM_MIN_SIDE:
        row["ms_ssim"] = float(ms_ssim(*pair)[0])
    if side >= least_side(distortion):
        row["distortion"] = float(DISTORTIONS[distortion](*pair)[0])
    return row
