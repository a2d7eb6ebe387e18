"""Encode and decode times of tcm_jax beside the authors' PyTorch code: same weights, same picture, same two cores.

    git clone https://github.com/jmliu206/LIC_TCM
    pip install -e ".[torch]" einops pytorch-msssim scipy tqdm && pip install --no-deps compressai==1.2.8
    python benchmarks/codec_vs_reference.py --reference LIC_TCM --image kodim01.png

The two take turns (ours, reference, ours, reference, ...), so that a busy machine slows both, each in its own process.
Without `--reference` ours is alone; on a GPU there are the reference as it comes, whose convolutions take TF32, and the
reference without TF32. Prints JSON: seconds by run, medians, `speedup` = reference / ours, and the most memory of each
process. Ours is timed from uint8 picture to file and back; the reference from float picture to strings and back, which
leaves out its conversions. The first runs are apart, and so is `compiling`: the process of ours that compiled the
programs and kept them for the one that is timed, as the command line does.
"""

import argparse
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cores
import jax
import numpy as np
from apart import Apart, references
from flax.traverse_util import unflatten_dict

from tcm_jax.codec import Codec
from tcm_jax.entropy import factorized
from tcm_jax.images.pictures import read_image
from tcm_jax.model.config import reference_config
from tcm_jax.model.tcm import flat_shapes
from tcm_jax.system.process import tune_process
from tcm_jax.weights import files, pytorch
from tcm_jax.weights.weights import Weights

PADDING = 128  # the reference takes pictures whose sides are multiples of this
LAST_OF_G_A = "g_a/layers_9/kernel"


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of jmliu206/LIC_TCM; default: ours alone")
    parser.add_argument("--weights", type=Path, help="safetensors or a reference checkpoint; default: synthetic")
    parser.add_argument("--n", type=int, default=64, help="N of the synthetic weights (64, 96 or 128)")
    parser.add_argument("--image", type=Path, help="picture file; default: a synthetic one of 768 x 512")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=0, help="time so many at once too, two at a time by us")
    parser.add_argument("--threads", type=int, default=2, help="cores that both may use")
    flags = parser.parse_args()
    # XLA's pool follows the affinity.
    cores.bind(flags.threads)
    weights = load(flags.weights) if flags.weights else synthetic_weights(flags.n)
    image = read_image(flags.image) if flags.image else synthetic_image(512, 768)
    result = {"image": list(image.shape), "threads": flags.threads}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # of the processes to come
        result["compiling"] = first_run(weights, image)
        codecs = {"tcm_jax": Apart(Ours, weights)}
        if flags.reference:
            from reference import ReferenceCodec

            for name, tf32 in references():
                codecs[name] = Apart(ReferenceCodec, flags.reference, weights, flags.threads, tf32)
        result |= measure(codecs, image, flags.repeats)
        if flags.pictures:
            result["several"] = several(codecs, image, flags.pictures)
    print(json.dumps(result, indent=1))


def load(path: Path) -> Weights:
    """Weights of a safetensors file or a checkpoint of the reference."""
    if path.suffix == ".safetensors":
        return files.load_weights(path)
    return files.make_weights(*pytorch.convert(path), {})


def synthetic_weights(n: int) -> Weights:
    """Untrained weights whose latents and scales are of a few units, so that the entropy coders have work."""
    config = reference_config(n)
    rng = np.random.default_rng(0)
    flat = {path: np.zeros(shape, np.float32) for path, shape in flat_shapes(config).items()}
    for path, value in flat.items():
        leaf = path.rpartition("/")[2]
        if leaf == "kernel":
            gain = 2.0 if path == LAST_OF_G_A else 0.7
            value[...] = gain / np.prod(value.shape[:-1]) ** 0.5 * rng.standard_normal(value.shape)
        elif leaf in ("scale", "beta"):
            value[...] = 1
        elif leaf == "gamma":
            np.fill_diagonal(value, 0.3)
        elif path.startswith("cc_scale_transforms_") and path.endswith("/layers_4/bias"):
            value[...] = 1.5 + 0.8 * rng.standard_normal(value.shape)
    params = unflatten_dict(flat, sep="/")
    params["entropy_bottleneck"] = factorized.init(jax.random.key(0), config.hyper_channels)
    return files.make_weights(config, params, {})


def synthetic_image(height: int, width: int) -> np.ndarray:
    """Smooth waves of several frequencies, a different mixture in each channel, and some noise: uint8 [H, W, 3]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width][..., None] / 64
    waves = sum(np.sin(rows * a + columns * b + c) for a, b, c in rng.normal(0, 2, (6, 3, 3)))
    return np.clip(128 + 25 * waves + rng.normal(0, 3, (height, width, 3)), 0, 255).astype(np.uint8)


class Ours(Codec):
    """Our codec, with the programs that an earlier process kept."""

    def __init__(self, weights: Weights):
        tune_process()
        super().__init__(weights)

    def compress_all(self, pictures: list[np.ndarray]) -> list[bytes]:
        """Several pictures, two at a time, as `tcm compress --jobs 2` does."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self.compress, pictures))

    def decompress_all(self, files: list[bytes]) -> int:
        """As many pictures decoded, two at a time; they stay there."""
        with ThreadPoolExecutor(2) as pool:
            return len(list(pool.map(self.decompress, files)))


def first_run(weights: Weights, image: np.ndarray) -> dict:
    """Seconds and memory of the process that compiles."""
    codec = Apart(Ours, weights)
    data, encode = codec.timed("compress", image)
    _, decode = codec.timed("decompress", data)
    result = {"encode": round(encode, 4), "decode": round(decode, 4), "peak_mib": codec.peak_mib()}
    codec.close()
    return result


def measure(codecs: dict[str, Apart], image: np.ndarray, repeats: int) -> dict:
    """Interleaved times; the first round of each codec warms up and compiles."""
    rounds = {name: {"encode": [], "decode": []} for name in codecs}
    streams, decoded, padded = {}, {}, as_reference(image)
    for _ in range(repeats + 1):
        for name, codec in codecs.items():
            picture = image if name == "tcm_jax" else padded
            streams[name] = timed(codec, "compress", picture, rounds[name]["encode"])
        for name, codec in codecs.items():
            decoded[name] = timed(codec, "decompress", streams[name], rounds[name]["decode"])
    result = {name: summary(times) for name, times in rounds.items()}
    medians = {name: {"encode": r["encode_median"], "decode": r["decode_median"]} for name, r in result.items()}
    for name, times in medians.items():
        times["total"] = times["encode"] + times["decode"]
        result[name]["peak_mib"] = codecs[name].peak_mib()
    result["tcm_jax"]["bytes"] = len(streams["tcm_jax"])
    height, width, _ = image.shape
    for name in codecs.keys() - {"tcm_jax"}:
        result[name]["bytes"] = sum(len(part[0]) for part in streams[name]["strings"])
        ratios = {direction: round(v / medians["tcm_jax"][direction], 3) for direction, v in medians[name].items()}
        theirs = decoded[name][0].transpose(1, 2, 0)[:height, :width] * 255
        difference = np.abs(np.round(theirs) - decoded["tcm_jax"].astype(np.float32))
        result[name.replace("reference", "speedup")] = ratios
        result[name]["decoded_difference"] = {"mean": float(difference.mean()), "max": float(difference.max())}
    return result


def as_reference(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to what the reference takes: float32 [1, 3, H', W'], padded."""
    sides = [(0, -side % PADDING) for side in image.shape[:2]]
    padded = np.pad(image, (*sides, (0, 0)), mode="edge").astype(np.float32) / 255
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None])


def several(codecs: dict[str, Apart], image: np.ndarray, count: int) -> dict:
    """Seconds a picture of `count` pictures, the image shifted; ours two at a time, the reference's in a row."""
    images = [np.roll(image, 16 * i, axis=1) for i in range(count)]
    result: dict = {"pictures": count}
    for name, codec in codecs.items():
        streams, encode = codec.timed("compress_all", images if name == "tcm_jax" else list(map(as_reference, images)))
        _, decode = codec.timed("decompress_all", streams)
        result[name] = {"encode": round(encode / count, 5), "decode": round(decode / count, 5)}
    return result


def timed(codec: Apart, method: str, argument, times: list[float]):
    """Result of the method; its seconds are appended to `times`."""
    result, seconds = codec.timed(method, argument)
    times.append(round(seconds, 4))
    return result


def summary(times: dict[str, list[float]]) -> dict:
    """First (compilation, warm-up), all later and median seconds of each direction."""
    result = {}
    for direction, (first, *rest) in times.items():
        result |= {f"{direction}_first": first, f"{direction}_seconds": rest}
        result[f"{direction}_median"] = round(float(np.median(rest)), 4)
    return result


if __name__ == "__main__":
    main()
