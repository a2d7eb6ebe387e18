"""Bits a pixel and PSNR from 38 to 52 dB beside AVIF 4:4:4 and JPEG XL; prints JSON.

    python benchmarks/top_rates.py PICTURE.png ...

Means of each codec's qualities, and the bits a pixel that each needs for a mean of 42, 45, 48 and 50 dB, between its
two nearest qualities by straight lines over dB.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from tcm_jax.codec import Codec
from tcm_jax.evaluation.codecs import other_codec
from tcm_jax.images.pictures import read_image
from tcm_jax.images.psnr import psnr
from tcm_jax.system.process import tune_process
from tcm_jax.weights.files import load_weights

QUALITIES = {
    "tcm": (95, 96, 96.5, 97, 97.5, 98, 99),
    "avif444psnr": (80, 86, 90, 93, 95, 97, 98, 99),
    "jpegxl": (88, 92, 95, 96, 97, 98, 99),
}
TARGETS = (42, 45, 48, 50)  # dB


def main() -> None:
    """Measures all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    pictures = [read_image(path) for path in parser.parse_args().pictures]
    tune_process()
    codec = Codec(load_weights())
    report = {}
    for name, qualities in QUALITIES.items():
        points = []
        for quality in qualities:
            found = []
            for picture in pictures:
                if name == "tcm":
                    encoded = codec.encode(picture, quality)
                    data, decoded = encoded.data, encoded.reconstruction
                else:
                    data = other_codec(name).compress(picture, quality)
                    decoded = other_codec(name).decompress(data)
                found.append((8 * len(data) * 3 / picture.size, psnr(picture, decoded)))
            points.append([quality, *np.round(np.mean(found, 0), 4).tolist()])
        _, bpp, reached = np.array(points).T
        needed = {f"{db} dB": round(float(np.interp(db, reached, bpp)), 3) for db in TARGETS if db <= reached.max()}
        report[name] = {"quality, bpp, PSNR": points, "bpp for": needed}
        print(json.dumps({name: report[name]}), flush=True)


if __name__ == "__main__":
    main()
