"""Bytes of lossless files beside PNG, WebP and JPEG XL, and seconds of one thread; prints JSON.

    python benchmarks/lossless.py DIR [DIR ...]

PNG is Pillow's with `optimize`, WebP its lossless method 6 with quality 100, JPEG XL effort 7 (pillow-jxl-plugin). Ours
is the residual layer without latents. The means are of bits a pixel; seconds are processor time.
"""

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
import pillow_jxl  # noqa: F401 - teaches Pillow JPEG XL
from PIL import Image

from tcm_jax.codec.residual.layer import decode_layer, encode_layer
from tcm_jax.images.pictures import read_picture

OTHERS = {
    "png": ("PNG", {"optimize": True}),
    "webp": ("WEBP", {"lossless": True, "method": 6, "quality": 100}),
    "jpegxl": ("JXL", {"lossless": True, "effort": 7}),
}
HEADER = 27  # bytes that a file has around its layer, about


def measure(path: Path) -> dict[str, float]:
    """Bits a pixel of every codec, and seconds."""
    colour = read_picture(path).colour
    pixels = colour.shape[0] * colour.shape[1]
    sizes: dict[str, float] = {}
    for name, (kind, options) in OTHERS.items():
        buffer = io.BytesIO()
        Image.fromarray(colour).save(buffer, kind, **options)
        sizes[name] = len(buffer.getvalue())
    start = time.thread_time()
    layer = encode_layer(colour)
    middle = time.thread_time()
    assert np.array_equal(decode_layer(layer.data, None, colour.shape), colour)
    seconds = {"encode": middle - start, "decode": time.thread_time() - middle}
    sizes["tcm"] = len(layer.data) + HEADER
    rates = {f"{name}_megapixels_a_second": pixels / 1e6 / value for name, value in seconds.items()}
    return {name: 8 * size / pixels for name, size in sizes.items()} | rates | {"kind": layer.data[0]}


def main() -> None:
    """Measures every picture of each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    report = {}
    for folder in parser.parse_args().folders:
        pictures = {path.name: measure(path) for path in sorted(folder.glob("*.png"))}
        mean = {
            key: round(float(np.mean([p[key] for p in pictures.values()])), 4) for key in next(iter(pictures.values()))
        }
        ratios = {name: round(mean["tcm"] / mean[name], 4) for name in OTHERS}
        each = {name: round(float(np.mean([p["tcm"] / p[name] for p in pictures.values()])), 4) for name in OTHERS}
        report[folder.name] = {"mean": mean, "ratio_of_means": ratios, "mean_of_ratios": each, "pictures": pictures}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
