"""The paper's ablations on networks small enough for a CPU, and designs of the embedded network: equal steps, several
seeds, loss on other pictures.

PYTHONPATH=. python benchmarks/ablations.py --train folder:train_photos.tar --data kodak --output runs/ablations

With `--designs` the variants are of the embedded network, with its rates and recipe, each from the KLT of the pictures;
loss, bits and PSNR are then means over its levels.
Writes ablations.json and ablations.md after every variant; run again, it goes on with the variants that are missing.
A seed decides the initial parameters and the order and crops of the pictures; the quantization noise is shared. The
figures are estimates (likelihoods, no files) of middle crops of 256x256.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from configs import tcm_tiny
from configs.default import make_config
from tcm_jax.evaluation.provenance import provenance
from tcm_jax.images.datasets import open_dataset
from tcm_jax.model import complexity
from tcm_jax.model.config import ModelConfig
from tcm_jax.model.tcm import TCM
from tcm_jax.system.files import atomic_write
from tcm_jax.training import losses
from tcm_jax.training.batches import Batches
from tcm_jax.training.config import lambdas, model_config
from tcm_jax.training.start import first_state
from tcm_jax.training.step import jit_step, level_weights
from tcm_jax.training.vectors import to_params

BASE = ModelConfig(
    widths=(16, 24, 32),
    depths=(0, 1, 1),
    head_dims=(8, 6, 8),
    hyper_width=16,
    hyper_depth=1,
    hyper_head_dim=8,
    latent_channels=40,
    hyper_channels=16,
    num_slices=5,
    max_support=10,
    atten_width=16,
    atten_head_dim=8,
    context_widths=(24, 16),
)
VARIANTS = {
    "TCM": {},
    "CNN blocks only": {"blocks": "cnn"},
    "transformer blocks only": {"blocks": "transformer"},
    "without SWAtten": {"attention": "none"},
    "attention in the transforms": {"attention": "transforms"},
    "without LRP": {"lrp": False},
    "2 slices": {"num_slices": 2},
    "10 slices": {"num_slices": 10},
}
DESIGNS = {
    "tcm_tiny": {},
    "narrower at stride 2": {"widths": (16, 64, 72), "head_dims": (8, 16, 18)},
    "wider at stride 2": {"widths": (32, 64, 72), "head_dims": (16, 16, 18)},
    "no block at stride 4": {"depths": (0, 0, 2)},
    "two blocks at stride 4": {"depths": (0, 2, 2)},
    "heads twice as wide": {"head_dims": (12, 32, 36)},
    "2 slices": {"num_slices": 2},
    "5 slices": {"num_slices": 5},
    "contexts twice as wide": {"context_widths": (64, 48)},
    "without SWAtten": {"attention": "none"},
}
CROP = 256


def main() -> None:
    """Trains and measures every variant that the output does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="as train.py's data.source")
    parser.add_argument("--data", required=True, help="pictures to measure on: a folder or kodak")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--designs", action="store_true", help="designs of the embedded network, not the ablations")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4, help="crops of 128x128 a step")
    flags = parser.parse_args()
    flags.output.mkdir(parents=True, exist_ok=True)
    pictures, file = middle_crops(flags.data), flags.output / "ablations.json"
    setting = {"steps": flags.steps, "seeds": flags.seeds, "batch": flags.batch, "crop": 128, "designs": flags.designs}
    base, variants = (tcm_tiny.MODEL, DESIGNS) if flags.designs else (BASE, VARIANTS)
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"setting": setting, "variants": {}}
    if found["setting"] != setting:
        parser.error(f"{file} was made with {found['setting']}; give another --output")
    for name, changes in variants.items():
        if name not in found["variants"]:
            found["variants"][name] = run(dataclasses.replace(base, **changes), flags, pictures)
            found["provenance"] = provenance({"first": 0, "last": flags.seeds - 1})
            atomic_write(file, json.dumps(found, indent=1).encode())
            atomic_write(flags.output / "ablations.md", markdown(found).encode())
            print(f"{name}: {found['variants'][name]}", flush=True)


def middle_crops(spec: str) -> np.ndarray:
    """The middles of all pictures, uint8 [n, CROP, CROP, 3]."""
    source, crops = open_dataset(spec), []
    for i in range(len(source)):
        top, left = ((side - CROP) // 2 for side in source[i].shape[:2])
        crops.append(source[i][top : top + CROP, left : left + CROP])
    return np.stack(crops)


def run(model: ModelConfig, flags: argparse.Namespace, pictures: np.ndarray) -> dict[str, Any]:
    """Parameters, work, and by seed: loss, bits per pixel and PSNR after training."""
    config = recipe(model, flags)
    step, score = jit_step(config), jax.jit(make_score(config))
    results, seconds, start = [], [], time.perf_counter()
    for seed in range(flags.seeds):
        seeded = config.copy_and_resolve_references()
        seeded.seed = seed
        state, batches = first_state(seeded), Batches(flags.train, flags.batch, 128, seed)
        for _ in range(flags.steps):
            batch, before = next(batches), time.perf_counter()
            state, _ = jax.block_until_ready(step(state, batch))
            seconds.append(time.perf_counter() - before)
        params = to_params(jax.tree.map(np.asarray, state.ema), model)
        parts = [score(params, picture) for picture in pictures]
        results.append({key: float(np.mean([part[key] for part in parts])) for key in ("loss", "bpp", "psnr")})
    work = sum(complexity.macs(model).values(), complexity.Macs()).total / (512 * 768) / 1e3
    return {
        "parameters": sum(complexity.parameters(model).values()),
        "kmac_per_pixel": work,
        "seconds": time.perf_counter() - start,
        "seconds_a_step": float(np.median(seconds)),
        **{key: [result[key] for result in results] for key in results[0]},
    }


def recipe(model: ModelConfig, flags: argparse.Namespace) -> ml_collections.ConfigDict:
    """How a variant is trained."""
    if flags.designs:
        config = tcm_tiny.get_config()
        config.model = ml_collections.ConfigDict(dataclasses.asdict(model))
    else:
        config = make_config("ablation", model)
        config.learning_rate, config.schedule = 1e-3, "cosine"
    config.steps, config.warmup_steps, config.ema_decay = flags.steps, 50, 0.99
    config.data.source, config.data.crop = flags.train, 128
    return config


def make_score(config: ml_collections.ConfigDict) -> Callable:
    """`(params, picture uint8 [H, W, 3]) -> {"loss", "bpp", "psnr", ...}`, of rounded latents, to be jitted.

    The means over the levels, each with its lambda and the weight that training gives it.
    """
    model, levels = TCM(model_config(config)), len(lambdas(config))

    def score(params, picture):
        x = picture[None].astype(jnp.float32) / 255

        def at_level(level):
            x_hat, out = model.apply({"params": params}, x, level=level[None])
            likelihoods = [value for name, value in out.items() if name.startswith("likelihood_")]
            x_hat = jnp.clip(x_hat, 0, 1)
            lam, weight = level_weights(config, level[None])
            return losses.rate_distortion(x, x_hat, likelihoods, lam, "mse", weight)[1]

        return jax.tree.map(jnp.mean, jax.lax.map(at_level, jnp.arange(levels, dtype=jnp.float32)))

    return score


def markdown(found: dict[str, Any]) -> str:
    """A table: means and standard deviations over the seeds, and the loss over the first variant's of the same seed."""
    setting, origin = found["setting"], found["provenance"]
    rates = "over the levels" if setting["designs"] else "at lambda 0.0067"
    lines = [f"{setting['steps']} steps of {setting['batch']} crops of 128x128, {setting['seeds']} seeds; loss {rates} "
             "on middle crops of 256x256, lower is better; ± is the standard deviation over seeds.", "",
             "| variant | parameters | kMAC a pixel | s a step | loss | loss - the first's, by seed | bpp | PSNR |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    base = np.array(next(iter(found["variants"].values()))["loss"])
    for name, row in found["variants"].items():
        loss, bpp, psnr = (np.array(row[key]) for key in ("loss", "bpp", "psnr"))
        numbers = spread(loss, 3), spread(loss - base, 3), spread(bpp, 3), spread(psnr, 2)
        work = f"{row['parameters']:,}", f"{row['kmac_per_pixel']:.2f}", f"{row['seconds_a_step']:.2f}"
        lines.append(f"| {' | '.join([name, *work, *numbers])} |")
    return "\n".join([*lines, "", f"`{origin['command']}`, commit {origin['commit']}, {origin['device']}", ""])


def spread(values: np.ndarray, digits: int) -> str:
    """Mean and standard deviation."""
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():.{digits}f} ± {deviation:.{digits}f}"


if __name__ == "__main__":
    main()
