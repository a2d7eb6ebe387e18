"""`tcm analyze`: the paper's analyses of a network on a picture, each a figure and its numbers."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tcm_jax.codec.codec import DEFAULT_QUALITY
from tcm_jax.errors import ConfigError
from tcm_jax.evaluation.analysis.latents import LatentMaps, gain_level, latent_maps
from tcm_jax.evaluation.analysis.receptive import OUTPUTS, THRESHOLDS, reach, receptive_field
from tcm_jax.evaluation.complexity_table import complexity_table
from tcm_jax.evaluation.provenance import provenance
from tcm_jax.evaluation.results import finite
from tcm_jax.images import figures
from tcm_jax.images.formats import check_ending
from tcm_jax.images.pictures import read_image
from tcm_jax.model.config import BLOCKS
from tcm_jax.model.initialization import init_params
from tcm_jax.system.cache import cache_folder
from tcm_jax.system.devices import local_devices
from tcm_jax.system.files import atomic_write, check_writable, descriptor, is_special
from tcm_jax.system.names import file_name, file_path, say
from tcm_jax.system.process import tune_process
from tcm_jax.training.open_weights import open_weights
from tcm_jax.weights.files import make_weights
from tcm_jax.weights.weights import Weights

KINDS = {
    "receptive-field": "gradient of a latent, or of an output pixel, with respect to the picture",
    "deviation": "how far y_hat is from y",
    "bits": "bits by latent position and slice, over the picture",
    "energy": "energy of the latent channels",
    "complexity": "parameters and multiply-accumulates by part, beside the paper's networks",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tcm analyze`."""
    kinds = "; ".join(f"{name}: {text}" for name, text in KINDS.items())
    parser.add_argument("kind", choices=list(KINDS), help=kinds)
    parser.add_argument("picture", type=file_path, nargs="?", help="not for complexity")
    parser.add_argument("-o", "--output", type=file_path, metavar="FILE", help="PNG (complexity: JSON); its numbers go "
                        "beside it with the ending .json; default: KIND.png")  # fmt: skip
    parser.add_argument("--weights", type=file_name, nargs="+", default=[None], metavar="FILE", help="several are "
                        "shown beside each other; default: the embedded model")  # fmt: skip
    parser.add_argument("--quality", type=float, help="of variable-rate weights, 1 to 100 (default: 55)")
    parser.add_argument("--point", type=int, nargs=2, metavar=("X", "Y"), help="of a receptive field, in pixels; "
                        "default: the middle (the paper has 70 700 of kodim04)")  # fmt: skip
    parser.add_argument("--of", choices=OUTPUTS, default="latent", help="what the receptive field is one of")
    parser.add_argument("--variants", action="store_true", help="instead of the weights themselves: networks of their "
                        "sizes with mixed, CNN and transformer blocks and initial parameters")  # fmt: skip
    parser.add_argument("--time", action="store_true", help="complexity: also seconds to encode and decode and peak "
                        "memory, each network in a process of its own (a few minutes)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Draws, writes and prints what the flags ask for. Raises TcmError."""
    if args.kind != "complexity":
        figures.check()
    output = _output(args)
    local_devices()
    tune_process()
    models = _models(args.weights, args.variants)
    out = sys.stderr if args.output and descriptor(args.output) == 1 else sys.stdout
    if args.kind == "complexity":
        unmeasured: Any = [(name, weights.config, {}) for name, weights in models.items()]
        numbers: Any = complexity_table(unmeasured, (cache := cache_folder()) and cache / "work", args.time)
        for line in _complexity_lines(numbers):
            say(line, out)
    elif args.picture is None:
        raise ConfigError(f"{args.kind} needs a picture: tcm analyze {args.kind} PICTURE")
    else:
        numbers = _draw(args, models, read_image(args.picture), output)
        for name, values in numbers.items():
            shown = (f"{key} {_short(value)}" for key, value in values.items() if key != "channels")
            say(f"{name}: {', '.join(shown)}", out)
    written = [] if args.kind == "complexity" else [output]
    origin = provenance({"initial parameters": 0} if args.variants else {})
    text = json.dumps({"provenance": origin, "numbers": finite(numbers)}, indent=1)
    if args.kind == "complexity" or not is_special(output):  # beside a pipe there is no place for the numbers
        written.append(output if is_special(output) else output.with_suffix(".json"))
        atomic_write(written[-1], (text + "\n").encode())
    say(f"wrote {' and '.join(map(str, written))}", out)


def _output(args: argparse.Namespace) -> Path:
    """Where to write, which must not cost a file that is read."""
    ending = ".json" if args.kind == "complexity" else ".png"
    output = args.output or Path(f"{args.kind}{ending}")
    if args.kind != "complexity":  # which writes the numbers beside it alone
        check_ending(output, ending)
    if args.picture and output.resolve() == args.picture.resolve() and not is_special(output):
        raise ConfigError(f"{output} is the picture itself; give -o another name")
    check_writable(output)
    return output


def _models(paths: list[str | None], variants: bool) -> dict[str, Weights]:
    """The weights that are analysed, each by a name of its own."""
    models = {}
    for path in paths:
        weights = open_weights(path)
        name = weights.name if weights.name not in models else f"{weights.name} {weights.identity[:6]}"
        if not variants:
            models[name] = weights
            continue
        for blocks in BLOCKS:
            config = dataclasses.replace(weights.config, blocks=blocks)
            models[f"{name}, {blocks}, untrained"] = make_weights(config, init_params(config, 0), {"name": blocks})
    return models


def _draw(args: argparse.Namespace, models: dict[str, Weights], image: np.ndarray, output: Path) -> dict[str, dict]:
    """Writes the figure and returns its numbers by model."""
    quality = DEFAULT_QUALITY if args.quality is None else args.quality
    qualities = {name: quality if weights.config.levels else None for name, weights in models.items()}
    if args.kind == "receptive-field":
        x, y = args.point or (image.shape[1] // 2, image.shape[0] // 2)
        fields = {name: receptive_field(weights, image, x, y, args.of, gain_level(weights, qualities[name]))
                  for name, weights in models.items()}  # fmt: skip
        figures.receptive_fields(image, (x, y), fields, THRESHOLDS, output)
        return {name: {f"above {t:g}": reach(field, t) for t in THRESHOLDS} for name, field in fields.items()}
    found = {name: latent_maps(weights, image, qualities[name]) for name, weights in models.items()}
    if args.kind == "bits":
        if len(found) > 1:
            raise ConfigError("a map of bits is of one model; give one --weights")
        (only,) = found.values()
        figures.bit_maps(image, only.slice_bits, only.hyper_bits, output)
        return {name: _bits(one, image) for name, one in found.items()}
    if args.kind == "deviation":
        figures.deviations(image, {name: one.deviation for name, one in found.items()}, output)
        return {name: {"mean": float(one.deviation.mean()), "largest": float(one.deviation.max()),
                       "root mean square of y_hat - y": float(np.sqrt(np.mean(np.square(one.y_hat - one.y))))}
                for name, one in found.items()}  # fmt: skip
    energies = {name: one.channel_energy for name, one in found.items()}
    figures.channel_energy(energies, output)
    return {name: _energy(energy, found[name]) for name, energy in energies.items()}


def _bits(one: LatentMaps, image: np.ndarray) -> dict[str, float]:
    slices = {f"slice {i + 1}": float(bits.sum()) for i, bits in enumerate(one.slice_bits)}
    total = float(one.bits_y.sum() + one.bits_z.sum())
    return {"bpp": total / (image.shape[0] * image.shape[1]), "bits": total, "z": float(one.bits_z.sum()), **slices}


def _energy(energy: np.ndarray, one: LatentMaps) -> dict[str, Any]:
    strongest = np.sort(energy)[::-1]
    most = int(np.searchsorted(np.cumsum(strongest) / strongest.sum(), 0.9)) + 1
    pairs = zip(energy, one.channel_bits, strict=True)
    return {
        "channels of 90 % of the energy": most,
        "of channels": len(energy),
        "silent channels": int((one.channel_bits < 1).sum()),
        "channels": [{"energy": float(strength), "bits": float(bits)} for strength, bits in pairs],
    }


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {_short(item)}' for key, item in value.items())})"
    return f"{value:,.4g}" if isinstance(value, float) and value < 1000 else f"{value:,.0f}"


def _complexity_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    timed = any(row.get("encode_seconds") for row in rows)
    yield (f"{'':16}{'parameters':>14}{'published':>12}{'GMAC':>9}{'indep.':>9}{'att.':>7}{'indep.':>8}{'kMAC/px':>10}"
          + (f"{'enc s':>8}{'dec s':>8}{'MiB':>8}" if timed else ""))  # fmt: skip
    for row in rows:
        published = _million(row.get("published_parameters"))
        weights, attention = row.get("independent_gmac") or "-", row.get("independent_attention_gmac") or "-"
        measured = ""
        if timed:
            memory = row["peak_memory_bytes"] / 2**20
            measured = f"{row['encode_seconds']:8.2f}{row['decode_seconds']:8.2f}{memory:8,.0f}"
        yield (f"{row['name']:16}{row['parameters']:14,}{published:>12}{row['gmac']:9.1f}{weights:>9}"
              f"{row['attention_gmac']:7.2f}{attention:>8}{row['kmac_per_pixel']:10.1f}{measured}")  # fmt: skip


def _million(value: float | None) -> str:
    return f"{value / 1e6:.2f} M" if value else "-"
