"""A page of crops beside AVIF, WebP and JPEG files of as many bytes.

    python docs/models/visual/crops.py page.webp PICTURE.png:LEFT,TOP PICTURE.png:LEFT,TOP ...

For each picture a row for each of SCORES. A row is the crop from LEFT, TOP on: the original, the model for the eye at a
quality from which on SSIMULACRA 2 is at least that (by bisection; 100 where none is), and the other codecs at the
lowest quality whose file has at least as many bytes. Captions have bytes and SSIMULACRA 2 of the whole picture. The
pages here are of Kodak's 04:150,230 15:540,90 13:0,100 21:290,60; and of skimage.data.page():0,0, the top 1000x700 of
docs/report.png at 629e627:20,80, and Kodak's 14:450,288 20:130,190.
"""

import argparse
from bisect import bisect_left

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcm_jax.codec import Codec
from tcm_jax.evaluation.codecs import file_of_size, other_codec
from tcm_jax.images.pictures import read_image
from tcm_jax.images.ssimulacra2 import ssimulacra2
from tcm_jax.weights.files import load_weights

SCORES = (50, 70, 85)
SIDE, CAPTION, GAP = 224, 34, 8
OTHERS = ("avif", "webp", "jpeg")


def main() -> None:
    """Draws the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE:LEFT,TOP")
    flags = parser.parse_args()
    codec = Codec(load_weights(tune="visual"))
    rows = [row(codec, *flag.rsplit(":", 1), score) for flag in flags.pictures for score in SCORES]
    width, height = len(rows[0]) * (SIDE + GAP) - GAP, len(rows) * (SIDE + CAPTION + GAP) - GAP
    page = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for y, tiles in enumerate(rows):
        for x, (crop, caption) in enumerate(tiles):
            left, top = x * (SIDE + GAP), y * (SIDE + CAPTION + GAP)
            page.paste(Image.fromarray(crop), (left, top))
            draw.multiline_text((left + 2, top + SIDE + 1), caption, "black", font, spacing=1)
    page.save(flags.page, quality=80)


def score_of(picture: np.ndarray, decoded: np.ndarray) -> float:
    """SSIMULACRA 2 of `decoded` beside `picture`, uint8 [H, W, 3] each."""
    return float(ssimulacra2(*(x[None].astype(np.float32) / 255 for x in (picture, decoded)))[0])


def row(codec: Codec, path: str, corner: str, score: float) -> list[tuple[np.ndarray, str]]:
    """(crop, caption) of each column."""
    picture, (left, top) = read_image(path), map(int, corner.split(","))

    def tile(decoded: np.ndarray, name: str, size: int) -> tuple[np.ndarray, str]:
        caption = f"{name}\n{size:,} bytes, SSIMULACRA 2 {score_of(picture, decoded):.1f}"
        return decoded[top : top + SIDE, left : left + SIDE], caption

    qualities = range(1, 101)
    at = bisect_left(
        qualities, score, key=lambda quality: score_of(picture, codec.encode(picture, quality).reconstruction)
    )
    quality = qualities[min(at, 99)]
    encoded = codec.encode(picture, quality)
    found = [tile(encoded.reconstruction, f"tcm, quality {quality}", len(encoded.data))]
    for other in map(other_codec, OTHERS):
        chosen, data = file_of_size(other, picture, len(encoded.data))
        found.append(tile(other.decompress(data), f"{other.label}, quality {chosen}", len(data)))
    return [(picture[top : top + SIDE, left : left + SIDE], "original"), *found]


if __name__ == "__main__":
    main()
