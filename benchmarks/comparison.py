"""Writes README's picture: a photograph, a JPEG, and a .tcm file of the same size, beside each other.

python benchmarks/comparison.py PHOTO OUT.png --crop TOP LEFT SIDE
"""

import argparse
from pathlib import Path

from tcm_jax.checkpoint import load_weights
from tcm_jax.codec import Codec
from tcm_jax.figures import comparison, jpeg_of_size
from tcm_jax.image import read_image
from tcm_jax.metrics import psnr
from tcm_jax.programs import keep_compiled_programs


def main() -> None:
    """Compresses the photograph both ways and writes the crops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--crop", type=int, nargs=3, default=(0, 0, 320), metavar=("TOP", "LEFT", "SIDE"))
    flags = parser.parse_args()
    keep_compiled_programs()
    original, codec = read_image(flags.photo), Codec(load_weights())
    data = codec.compress(original)
    jpeg, as_jpeg = jpeg_of_size(original, len(data))
    pictures = [original, as_jpeg, codec.decompress(data)]
    labels = [f"original\n{flags.photo.name}", *(
        f"{name}, {len(file):,} bytes\n{psnr(original, picture):.2f} dB"
        for name, file, picture in (("JPEG", jpeg, pictures[1]), ("tcm_jax", data, pictures[2]))
    )]  # fmt: skip
    top, left, side = flags.crop
    comparison([p[top : top + side, left : left + side] for p in pictures], labels, flags.output)


if __name__ == "__main__":
    main()
