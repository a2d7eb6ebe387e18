"""BD-rates by metrics that no model here was trained for; prints JSON. Needs PyTorch, torchvision and piq.

    python benchmarks/judges.py PICTURE.png ... [--qualities 1 20 40 60 80 95]

GMSD, HaarPSI, VSI and MDSI (package piq) of the embedded models and of AVIF 4:4:4, each against AVIF 4:2:0, percent of
its bits at equal value. As metrics near their best value count by ratios, they are taken as -10 log10 of the distance.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import piq
import torch

from tcm_jax.codec import Codec
from tcm_jax.evaluation.bdrate import bd_rate
from tcm_jax.evaluation.codecs import other_codec
from tcm_jax.images.pictures import read_image
from tcm_jax.system.process import tune_process
from tcm_jax.weights.embedded import EMBEDDED
from tcm_jax.weights.files import load_weights

# Each a distance, 0 for equal pictures.
METRICS = {
    "GMSD": lambda x, y: piq.gmsd(x, y, reduction="none"),
    "HaarPSI": lambda x, y: 1 - piq.haarpsi(x, y, reduction="none"),
    "VSI": lambda x, y: 1 - piq.vsi(x, y, reduction="none"),
    "MDSI": lambda x, y: piq.mdsi(x, y, reduction="none"),
}
CODECS = ("avif", "avif444", "avif444psnr")


def main() -> None:
    """Measures all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--qualities", nargs="+", type=float, default=[1, 20, 40, 60, 80, 95])
    flags = parser.parse_args()
    pictures = [read_image(path) for path in flags.pictures]
    tune_process()
    curves = {}
    for tune in EMBEDDED:
        codec = Codec(load_weights(tune=tune))
        curves[tune] = [_point(pictures, lambda x, q=q, codec=codec: _encoded(codec, x, q)) for q in flags.qualities]
    for name in CODECS:
        other = other_codec(name)
        curves[name] = [_point(pictures, lambda x, q=q, other=other: _other(other, x, q)) for q in other.ladder]
    for metric in METRICS:
        points = {name: ([at["bpp"] for at in curve], [at[metric] for at in curve]) for name, curve in curves.items()}
        rates = {name: bd_rate(points["avif"], points[name]) for name in curves if name != "avif"}
        print(json.dumps({metric: {name: rate and round(rate.percent, 1) for name, rate in rates.items()}}), flush=True)


def _encoded(codec: Codec, picture: np.ndarray, quality: float) -> tuple[int, np.ndarray]:
    encoded = codec.encode(picture, quality)
    return len(encoded.data), encoded.reconstruction


def _other(codec, picture: np.ndarray, quality: int) -> tuple[int, np.ndarray]:
    data = codec.compress(picture, quality)
    return len(data), codec.decompress(data)


def _point(pictures: list[np.ndarray], code) -> dict[str, float]:
    """Means over the pictures of bits a pixel and of each metric in dB."""
    rows = []
    for picture in pictures:
        size, decoded = code(picture)
        x, y = (torch.from_numpy(p.astype(np.float32) / 255).permute(2, 0, 1)[None] for p in (picture, decoded))
        found = {name: -10 * np.log10(max(metric(y, x).item(), 1e-9)) for name, metric in METRICS.items()}
        rows.append({"bpp": 8 * size * 3 / picture.size, **found})
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


if __name__ == "__main__":
    main()
