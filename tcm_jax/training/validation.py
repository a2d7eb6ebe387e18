"""What a model in training makes of pictures that it does not see: real files, decoded again."""

from typing import Any

import ml_collections
import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.errors import StreamError
from tcm_jax.images.metrics import MS_SSIM_MIN_SIDE, ms_ssim, psnr
from tcm_jax.images.sources import ImageSource
from tcm_jax.training.losses import DISTORTIONS
from tcm_jax.weights.weights import Weights


def validate(
    weights: Weights, pictures: ImageSource, config: ml_collections.ConfigDict
) -> tuple[dict[str, float], list[np.ndarray]]:
    """(means over the first `config.validation.pictures`, their decoded pictures uint8 [H, W, 3]).

    The means: bpp of the files, bpp_estimated by the likelihoods, psnr in dB, ms_ssim and distortion (of pictures large
    enough) and the training loss with the bits of the files. Raises StreamError if a file does not decode to the
    encoder's picture.
    """
    codec, rows, decoded = Codec(weights, coder="native"), [], []
    for i in range(min(config.validation.pictures, len(pictures))):
        image = pictures[i]
        encoded = codec.encode(image)
        if not np.array_equal(codec.decompress(encoded.data), encoded.reconstruction):
            raise StreamError(f"{pictures.name(i)}: the decoded picture is not what the encoder reconstructs")
        rows.append(_measure(image, encoded, config.distortion))
        decoded.append(encoded.reconstruction)
    names = {name for row in rows for name in row}
    means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in sorted(names)}
    return {"loss": config.lam * means["distortion"] + means["bpp"], **means}, decoded


def _measure(image: np.ndarray, encoded: Any, distortion: str) -> dict[str, float]:
    pixels = image.shape[0] * image.shape[1]
    difference = image.astype(np.float64) - encoded.reconstruction
    row = {
        "bpp": 8 * len(encoded.data) / pixels,
        "bpp_estimated": encoded.estimated_bits / pixels,
        "mse": float(np.mean(difference**2)) / 255**2,
        "psnr": psnr(image, encoded.reconstruction),
    }
    pair = [picture[None].astype(np.float32) / 255 for picture in (encoded.reconstruction, image)]
    if large := min(image.shape[:2]) >= MS_SSIM_MIN_SIDE:
        row["ms_ssim"] = float(ms_ssim(*pair)[0])
    if large or distortion == "mse":
        row["distortion"] = float(DISTORTIONS[distortion](*pair)[0])
    return row
