"""Encode and decode times of tcm_jax beside the authors' PyTorch code: same weights, same picture, same two cores.

    git clone https://github.com/jmliu206/LIC_TCM
    pip install -e ".[torch]" einops pytorch-msssim scipy tqdm && pip install --no-deps compressai==1.2.8
    python benchmarks/codec_vs_reference.py --reference LIC_TCM --image kodim01.png

The two take turns (reference, ours, reference, ours, ...), so that a busy machine slows both, each in its own process.
Prints JSON: seconds by run, medians, `speedup` = reference / ours, and the most memory of each process. Ours is timed
from uint8 picture to file and back; the reference from float picture to strings and back, which leaves out its
conversions. The first runs are apart, and so is `compiling`: the process of ours that compiled the programs and kept
them for the one that is timed, as the command line does.
"""

import argparse
import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import tempfile
import types
import warnings
from pathlib import Path

import cores
import jax
import numpy as np
import torch
from apart import Apart
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
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of jmliu206/LIC_TCM")
    parser.add_argument("--weights", type=Path, help="safetensors or a reference checkpoint; default: synthetic")
    parser.add_argument("--n", type=int, default=64, help="N of the synthetic weights (64, 96 or 128)")
    parser.add_argument("--image", type=Path, help="picture file; default: a synthetic one of 768 x 512")
    parser.add_argument("--repeats", type=int, default=5)
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
        codecs = {
            "reference": Apart(Reference, flags.reference, weights, flags.threads),
            "tcm_jax": Apart(Ours, weights),
        }
        result |= measure(codecs, image, flags.repeats)
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


def first_run(weights: Weights, image: np.ndarray) -> dict:
    """Seconds and memory of the process that compiles."""
    codec = Apart(Ours, weights)
    data, encode = codec.timed("compress", image)
    _, decode = codec.timed("decompress", data)
    result = {"encode": round(encode, 4), "decode": round(decode, 4), "peak_mib": codec.peak_mib()}
    codec.close()
    return result


class Reference:
    """The authors' model behind the methods of our codec."""

    def __init__(self, folder: Path, weights: Weights, threads: int):
        torch.set_num_threads(threads)
        n = weights.config.widths[0] // 2
        if weights.config != reference_config(n):
            sys.exit("the reference has no model of this configuration")
        self.model = import_reference(folder)(N=n).eval()
        state = {name: torch.from_numpy(value) for name, value in pytorch.from_flax(weights.params).items()}
        # Their own load_state_dict wants the coder's buffers as well; update() computes them.
        missing, unexpected = torch.nn.Module.load_state_dict(self.model, state, strict=False)
        if unexpected or any(not pytorch.BUFFERS.search(name) for name in missing):
            sys.exit(f"the reference's parameters have other names: {missing[:5]} {unexpected[:5]}")
        self.model.update()

    @torch.no_grad()
    def compress(self, x: np.ndarray) -> dict:
        """Float picture [1, 3, H, W] to the reference's streams."""
        return self.model.compress(torch.from_numpy(x))

    @torch.no_grad()
    def decompress(self, streams: dict) -> np.ndarray:
        """The reference's streams to the float picture [1, 3, H, W] in [0, 1]."""
        return self.model.decompress(streams["strings"], streams["shape"])["x_hat"].numpy()


def import_reference(folder: Path) -> type[torch.nn.Module]:
    """The class TCM of `folder`/models/tcm.py."""
    if not (folder / "models" / "tcm.py").is_file():
        sys.exit(f"{folder} is no checkout of jmliu206/LIC_TCM: models/tcm.py is missing")
    base = type("BaseTransform", (), {})
    stand_in("torchvision.transforms")
    stand_in("torch_geometric.transforms", BaseTransform=base, Center=type("Center", (base,), {}))
    stand_in("torch_geometric.data", Data=type("Data", (), {}))
    stand_in("torch_geometric.data.datapipes", functional_transform=lambda name: lambda cls: cls)
    stand_in("timm.models.layers", trunc_normal_=torch.nn.init.trunc_normal_, DropPath=torch.nn.Identity)
    stand_in("pandas")
    sys.path.insert(0, str(folder))
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module("models.tcm").TCM


STAND_INS: set[str] = set()


def stand_in(name: str, **contents) -> None:
    """An otherwise empty module `name`, where its package is absent: imported by CompressAI, not used by TCM."""
    top = name.partition(".")[0]
    if top not in STAND_INS and importlib.util.find_spec(top):
        return
    STAND_INS.add(top)
    parent = None
    for depth in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:depth])
        if part not in sys.modules:
            sys.modules[part] = types.ModuleType(part)
            sys.modules[part].__spec__ = importlib.machinery.ModuleSpec(part, None)
        if parent:
            setattr(parent, part.rpartition(".")[2], sys.modules[part])
        parent = sys.modules[part]
    parent.__dict__.update(contents)


def measure(codecs: dict, image: np.ndarray, repeats: int) -> dict:
    """Interleaved times; the first round of each codec warms up and compiles."""
    sides = [(0, -side % PADDING) for side in image.shape[:2]]
    padded = np.pad(image, (*sides, (0, 0)), mode="edge").astype(np.float32) / 255
    pictures = {"reference": np.ascontiguousarray(padded.transpose(2, 0, 1)[None]), "tcm_jax": image}
    rounds = {name: {"encode": [], "decode": []} for name in codecs}
    streams, decoded = {}, {}
    for _ in range(repeats + 1):
        for name, codec in codecs.items():
            streams[name] = timed(codec, "compress", pictures[name], rounds[name]["encode"])
        for name, codec in codecs.items():
            decoded[name] = timed(codec, "decompress", streams[name], rounds[name]["decode"])
    result = {name: summary(times) for name, times in rounds.items()}
    for name, codec in codecs.items():
        result[name]["peak_mib"] = codec.peak_mib()
    result["reference"]["bytes"] = sum(len(part[0]) for part in streams["reference"]["strings"])
    result["tcm_jax"]["bytes"] = len(streams["tcm_jax"])
    medians = {name: {"encode": r["encode_median"], "decode": r["decode_median"]} for name, r in result.items()}
    for times in medians.values():
        times["total"] = times["encode"] + times["decode"]
    result["speedup"] = {k: round(v / medians["tcm_jax"][k], 3) for k, v in medians["reference"].items()}
    height, width, _ = image.shape
    theirs = decoded["reference"][0].transpose(1, 2, 0)[:height, :width] * 255
    difference = np.abs(np.round(theirs) - decoded["tcm_jax"].astype(np.float32))
    result["decoded_difference"] = {"mean": float(difference.mean()), "max": float(difference.max())}
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
