"""Mean PSNR of JPEG files (Pillow, 4:2:0, optimized) at a mean rate, interpolated between qualities; prints JSON.

python benchmarks/jpeg.py DIR BPP
"""

import argparse
import io
import json

import numpy as np
from PIL import Image

from tcm_jax.evaluation.testsets import open_dataset
from tcm_jax.figures import jpeg
from tcm_jax.metrics import psnr

QUALITIES = (3, 5, 7, 9, 11, 13, 15, 18, 21, 25, 30, 35, 40, 50, 60, 70, 80)


def main() -> None:
    """Compresses all pictures at all qualities."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder, kodak or samples")
    parser.add_argument("bpp", type=float, help="mean bits per pixel")
    flags = parser.parse_args()
    source = open_dataset(flags.data)
    pictures = [source[i] for i in range(len(source))]
    rates, values = [], []
    for quality in QUALITIES:
        files = [jpeg(picture, quality) for picture in pictures]
        decoded = [np.array(Image.open(io.BytesIO(file))) for file in files]
        pairs = list(zip(pictures, decoded, strict=True))
        rates.append(
            float(np.mean([8 * len(f) / (p.shape[0] * p.shape[1]) for f, p in zip(files, pictures, strict=True)]))
        )
        values.append(float(np.mean([psnr(a, b) for a, b in pairs])))
    points = [{"quality": q, "bpp": r, "psnr": v} for q, r, v in zip(QUALITIES, rates, values, strict=True)]
    print(
        json.dumps({"bpp": flags.bpp, "psnr": float(np.interp(flags.bpp, rates, values)), "points": points}, indent=1)
    )


if __name__ == "__main__":
    main()
