"""How near to a picture a network comes without quantization, by the number of detail channels beside it.

PYTHONPATH=. python benchmarks/detail.py --train folder:train_photos.tar --data kodak --weights FILE

The channels are the strongest of the Karhunen-Loeve transform of what the network misses of crops of the training
pictures; PSNR is the mean over middle crops of 256x256 of the others, before rounding to 8 bits.
"""

import argparse

import numpy as np

from benchmarks.ablations import middle_crops
from tcm_jax.training.batches import Batches
from tcm_jax.training.extension import missing_blocks
from tcm_jax.weights import files

CHANNELS = (0, 80, 160, 240, 320, 400, 480, 528, 560, 640)
CROPS = 320  # of 256x256


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="as train.py's data.source")
    parser.add_argument("--data", required=True, help="pictures to measure on: a folder or kodak")
    parser.add_argument("--weights", required=True, help="a variable-rate network without detail")
    flags = parser.parse_args()
    weights = files.load_weights(flags.weights)

    def blocks(crops: np.ndarray) -> np.ndarray:
        return missing_blocks(weights.params, weights.config, weights.config.levels, crops)

    batches = Batches(flags.train, 8, 256, 0)
    covariance: np.ndarray = np.zeros((768, 768))
    for _ in range(CROPS // 8):
        found = blocks(next(batches)).astype(np.float64)
        covariance += found.T @ found
    basis = np.linalg.eigh(covariance)[1][:, ::-1]
    left = [blocks(crop[None]) @ basis for crop in middle_crops(flags.data)]
    print("| detail channels | PSNR | lowest PSNR |\n|---|---|---|")
    for channels in CHANNELS:
        values = [-10 * np.log10((part[:, channels:] ** 2).sum() / part.size) for part in left]
        print(f"| {channels} | {np.mean(values):.2f} dB | {np.min(values):.2f} dB |")


if __name__ == "__main__":
    main()
