"""The squared error that goes with an MS-SSIM and with a score of SSIMULACRA 2 on photographs; prints JSON.

Middle crops of the pictures, coded by the embedded model for PSNR at each quality. `score_76`: the decades that the
mean squared error of samples in [0, 1] is below 1 at a score of 76, mean of the pictures, and `points`: scores a
decade, both by lines of one slope, an offset a picture. `ms_ssim`: squared error over 1 - MS-SSIM, geometric mean.

python benchmarks/metric_units.py kodak
"""

import argparse
import json

import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.images.datasets import open_dataset
from tcm_jax.images.metrics import ms_ssim
from tcm_jax.images.psnr import psnr
from tcm_jax.images.sources import middle
from tcm_jax.images.ssimulacra2 import ssimulacra2
from tcm_jax.system.process import tune_process
from tcm_jax.weights.files import load_weights


def main() -> None:
    """Measures every picture at every quality."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder, kodak or samples")
    parser.add_argument("--qualities", default="50,57,60", help="of the embedded model, 1 to 95")
    parser.add_argument("--crop", type=int, default=384, help="pixels a side, from 161 on")
    args = parser.parse_args()
    tune_process()
    codec, source = Codec(load_weights(tune="psnr")), open_dataset(args.data)
    qualities = [float(quality) for quality in args.qualities.split(",")]
    crops = [middle(source[i], args.crop) for i in range(len(source))]
    measured = np.array([[judged(codec, crop, quality) for quality in qualities] for crop in crops])
    decades, loss, scores = np.moveaxis(measured, -1, 0)  # [pictures, qualities] each
    apart = [values - values.mean(1, keepdims=True) for values in (decades, scores)]
    slope = (apart[0] * apart[1]).sum() / (apart[1] ** 2).sum()  # decades a point
    found = {
        "pictures": len(crops),
        "scores": [round(float(score), 1) for score in scores.mean(0)],
        "score_76": round(float((decades + slope * (76 - scores)).mean()), 3),
        "points": round(float(1 / slope), 1),
        "ms_ssim": round(float(np.exp(np.mean(np.log(10**-decades / loss)))), 4),
    }
    print(json.dumps(found))


def judged(codec: Codec, image: np.ndarray, quality: float) -> tuple[float, float, float]:
    """(decades of the mean squared error below 1, 1 - MS-SSIM, score) of the decoded picture."""
    decoded = codec.decompress(codec.compress(image, quality))
    pair = [picture[None].astype(np.float32) / 255 for picture in (image, decoded)]
    return psnr(image, decoded) / 10, 1 - float(ms_ssim(*pair)[0]), float(ssimulacra2(*pair)[0])


if __name__ == "__main__":
    main()
