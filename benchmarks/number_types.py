"""What storing a model's parameters in fewer bits costs, for `train.py --export ... --dtype`.

PYTHONPATH=. python benchmarks/number_types.py --weights FILE --data folder:train_native.tar --pictures 24

For each type the file's size and, by level, what coding costs more than in float32: bits, and error as the bits that
it is worth by the level's lambda, in percent of float32's bits. Estimates (likelihoods, no files) of middle crops of
256x256; the distortion is what the weights were trained for.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ablations import middle_crops
from tcm_jax.model.tcm import TCM
from tcm_jax.training import losses
from tcm_jax.weights import files
from tcm_jax.weights.weights import Weights

TYPES = ("float32", "float16", "int8")


def main() -> None:
    """Prints the table, Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="a variable-rate network's, in float32 or float16")
    parser.add_argument("--data", required=True, help="pictures: a folder or a tar file")
    parser.add_argument("--pictures", type=int, default=24, help="how many; default: %(default)s")
    flags = parser.parse_args()
    weights, crops = files.load_weights(flags.weights), middle_crops(flags.data)
    crops = crops[:: max(1, len(crops) // flags.pictures)][: flags.pictures]
    levels = range(weights.config.levels)
    base = None
    print(f"| | MB | {' | '.join(f'level {level}' for level in levels)} |")
    print(f"|---|---|{'---|' * len(levels)}")
    for dtype in TYPES:
        stored = files.make_weights(weights.config, weights.params, {}, np.dtype(dtype))
        with tempfile.TemporaryDirectory() as folder:
            size = files.save_weights(Path(folder) / "weights.safetensors", stored, np.dtype(dtype))
        found = measure(stored, weights.metadata, crops)
        base = found if base is None else base
        extra = 100 * (found - base) / base[:, :1]  # of the bits
        cells = [f"{bits:+.2f} {error:+.2f}" for bits, error in extra]
        print(f"| {dtype} | {size / 1e6:.1f} | {' | '.join(cells)} |", flush=True)


def measure(weights: Weights, metadata: dict[str, str], crops: np.ndarray) -> np.ndarray:
    """(bits a pixel, lambda times distortion) of each level in the mean over crops: float64 [levels, 2]."""
    model, lams = TCM(weights.config), [float(lam) for lam in metadata["lambda"].split(",")]

    @jax.jit
    def coded(params, picture, level):
        x = picture[None].astype(jnp.float32) / 255
        x_hat, out = model.apply({"params": params}, x, level=level[None])
        likelihoods = [value for name, value in out.items() if name.startswith("likelihood_")]
        parts = losses.rate_distortion(x, jnp.clip(x_hat, 0, 1), likelihoods, 1.0, metadata["distortion"])[1]
        return jnp.stack([parts["bpp"], parts["distortion"]])

    found = np.array(
        [[coded(weights.params, crop, jnp.float32(level)) for crop in crops] for level in range(len(lams))], np.float64
    ).mean(1)
    return found * np.stack([np.ones(len(lams)), lams], axis=1)


if __name__ == "__main__":
    main()
