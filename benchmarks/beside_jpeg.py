"""PSNR above quality 60 beside the best JPEG of no more bytes, on pictures that latents fail; prints JSON lines.

    python benchmarks/beside_jpeg.py PHOTOGRAPH.png FILE_OR_FOLDER ... [--qualities 61,80,95]

Besides the pictures that are named: noise, constants, one-pixel patterns, gradients with noise, and the photograph with
a half, a quarter and a sixteenth of it replaced by text, by a pattern, or by noise. JPEG is Pillow's, optimized, 4:2:0
and 4:4:4, every quality. The exit status is 1 where JPEG is ahead by more than 0.5 dB.
"""

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFile, ImageFont

from tcm_jax.codec import Codec
from tcm_jax.images.pictures import read_picture
from tcm_jax.images.psnr import psnr
from tcm_jax.weights.files import load_weights

AHEAD = 0.5  # dB that JPEG may be ahead
SIDE = 512  # pixels of the pictures that are made


def text(bilevel: bool) -> np.ndarray:
    """A page of small letters, uint8 [SIDE, SIDE, 3]."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(image)
    pen.fontmode = "1" if bilevel else "L"
    letters = np.random.default_rng(0).integers(97, 123, (40, 90)).astype(np.uint8)
    letters[np.random.default_rng(1).random(letters.shape) < 0.18] = 32
    for row, line in enumerate(letters):
        pen.text((4, 13 * row), bytes(line).decode(), "black", ImageFont.load_default(11))
    return np.asarray(image)


def made(photograph: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures by name, of the first SIDE rows and columns of a photograph among others."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((SIDE, SIDE))
    photograph = photograph[:SIDE, :SIDE]
    parts = {
        "text": text(False),
        "bilevel": text(True),
        "checkers": (rows + columns) % 2 * 255,
        "stripes": columns % 2 * 255,
        "noise": rng.integers(0, 256, (SIDE, SIDE, 3)),
        "dither": (columns / 2 > rng.integers(0, 256, (SIDE, SIDE))) * 255,
    }
    parts = {n: np.array(np.broadcast_to(np.atleast_3d(p), (SIDE, SIDE, 3)), np.uint8) for n, p in parts.items()}
    pictures = dict(parts)
    pictures["grey noise"] = parts["noise"][..., 0]
    pictures["gradient with noise"] = np.clip(columns / 2 + rng.normal(0, 6, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    for name, part in parts.items():
        for share, side in (
            ("half", (SIDE, SIDE // 2)),
            ("quarter", (SIDE // 2, SIDE // 2)),
            ("16th", (SIDE // 4,) * 2),
        ):
            mixed = photograph.copy()
            mixed[: side[0], : side[1]] = part[: side[0], : side[1]]
            pictures[f"{share} {name}"] = mixed
    return pictures


def best_jpeg(picture: np.ndarray, budget: int) -> float:
    """PSNR of the best JPEG of at most so many bytes; 0 if there is none."""
    best = 0.0
    for subsampling in (2, 0) if picture.ndim == 3 else (0,):
        found = b""
        first, last = 1, 101
        while first < last:  # the first quality that is too large
            middle = (first + last) // 2
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=middle, subsampling=subsampling, optimize=True)
            if buffer.tell() <= budget:
                first, found = middle + 1, buffer.getvalue()
            else:
                last = middle
        if found:
            best = max(best, psnr(picture, np.asarray(Image.open(io.BytesIO(found)))))
    return best


def main() -> int:
    """Measures all pictures at all qualities."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photograph", type=Path)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--qualities", default="61,70,80,90,95,97,99")
    args = parser.parse_args()
    ImageFile.MAXBLOCK = 1 << 24  # bytes: JPEG of noise is larger than Pillow expects
    files = [file for path in args.paths for file in (sorted(path.glob("*.png")) if path.is_dir() else [path])]
    pictures = {file.name: read_picture(file).colour for file in files} | made(read_picture(args.photograph).colour)
    codec, worst = Codec(load_weights()), 0.0
    for name, picture in pictures.items():
        for quality in map(float, args.qualities.split(",")):
            encoded = codec.encode(picture, quality)
            ours = min(psnr(picture, encoded.reconstruction), 99.0)
            best = best_jpeg(picture, len(encoded.data))
            worst = max(worst, best - ours)
            kind = ("latents", "both", "layer")[(encoded.layer_bytes > 0) + (encoded.stream_bytes == 0)]
            print(json.dumps({"picture": name, "quality": quality, "bytes": len(encoded.data), "by": kind,
                              "psnr": round(ours, 2), "jpeg": round(best, 2)}), flush=True)  # fmt: skip
    print(json.dumps({"jpeg_ahead_at_most": round(worst, 2)}))
    return int(worst > AHEAD)


if __name__ == "__main__":
    sys.exit(main())
