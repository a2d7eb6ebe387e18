"""What a model makes of real pictures with real bitstreams: bits, quality and seconds, as a table, CSV and JSON."""

import argparse
import csv
import dataclasses
import io
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tcm_jax import checkpoint, convert
from tcm_jax.codec import Codec, keep_compiled_programs
from tcm_jax.data import ImageSource
from tcm_jax.errors import StreamError, TcmError, WeightsError
from tcm_jax.evaluation.testsets import open_dataset, short_names
from tcm_jax.image import atomic_write
from tcm_jax.metrics import MS_SSIM_MIN_SIDE, ms_ssim, ms_ssim_db, psnr
from tcm_jax.model import Weights
from tcm_jax.model_config import ModelConfig, reference_config

# Kodak points (bpp, PSNR) that the authors published (jmliu206/LIC_TCM, RD_data.md), by N.
PUBLISHED = {
    64: ("TCM-small", ((0.161, 29.99), (0.198, 30.57), (0.306, 32.42), (0.455, 34.18), (0.628, 36.01), (0.899, 37.96))),
    96: ("TCM-medium", ((0.158, 29.88), (0.195, 30.62), (0.295, 32.38), (0.439, 34.15), (0.623, 36.1), (0.882, 37.98))),
    128: ("TCM-large", ((0.155, 30.07), (0.194, 30.85), (0.3, 32.59), (0.443, 34.33), (0.625, 36.15), (0.88, 38.07))),
}
COLUMNS = ("name", "width", "height", "bytes", "bpp", "bpp_estimated", "psnr", "ms_ssim", "ms_ssim_db",
           "encode_seconds", "decode_seconds")  # fmt: skip
PARTS = ("bpp_estimated", "bpp_tables", "bpp_streams", "bpp_corrections", "bpp")
_TILE = 128  # Pictures are padded to multiples of this before anything is compiled for their shape.


@dataclasses.dataclass
class Report:
    """What `evaluate` measured.

    `images`: one dictionary a picture with the keys COLUMNS; `None` stands for MS-SSIM of a picture too small for it.
    `parts`: bits per pixel as they grow from the float estimate (likelihoods) over the integer tables, the streams and
    the corrections to the file; means over the pictures. `compile_seconds`: what the first run with each new shape took
    longer than the second. Memory in bytes, the highest so far; `device_memory` only where the device counts it.
    """

    images: list[dict[str, Any]]
    parts: dict[str, float]
    compile_seconds: float
    peak_memory: int
    device_memory: int | None

    @property
    def mean(self) -> dict[str, Any]:
        """Means under the same keys; MS-SSIM over the pictures that have one, decibels as the mean of decibels."""
        return {"name": "mean"} | {key: _mean([image[key] for image in self.images]) for key in COLUMNS[1:]}


def evaluate(
    codec: Any, pictures: ImageSource, on_picture: Callable[[int, str], None] = lambda i, name: None
) -> Report:
    """Compresses and decompresses every picture with `codec` and measures.

    `on_picture(index, name)` is called before each. Raises StreamError if a decoded picture is not the encoder's own
    reconstruction, ImageError or DataError for a picture that cannot be read.
    """
    images, parts, warm, compile_seconds = [], [], set(), 0.0
    for i, name in enumerate(short_names(pictures)):
        on_picture(i, name)
        image = pictures[i]
        shape = tuple(-(-side // _TILE) for side in image.shape[:2])
        first_seconds = 0.0 if shape in warm else sum(_round_trip(codec, image)[2:])
        warm.add(shape)
        row, part = _measure(codec, name, image)
        compile_seconds += max(first_seconds - row["encode_seconds"] - row["decode_seconds"], 0.0)
        images.append(row)
        parts.append(part)
    means = {key: _mean([part[key] for part in parts]) for key in PARTS}
    return Report(images, means, compile_seconds, *_peak_memory())


def _round_trip(codec: Codec, image: np.ndarray) -> tuple[bytes, np.ndarray, float, float]:
    """The file, the decoded picture, and the seconds that each took."""
    start = time.perf_counter()
    data = codec.compress(image)
    middle = time.perf_counter()
    decoded = codec.decompress(data)
    return data, decoded, middle - start, time.perf_counter() - middle


def _measure(codec: Codec, name: str, image: np.ndarray) -> tuple[dict[str, Any], dict[str, float]]:
    """The row of one picture, and its PARTS."""
    data, decoded, encode_seconds, decode_seconds = _round_trip(codec, image)
    encoded = codec.encode(image)
    if encoded.data != data or not np.array_equal(decoded, encoded.reconstruction):
        raise StreamError(f"{name}: the decoded picture is not what the encoder reconstructs; please report this")
    height, width = image.shape[:2]
    similarity = _ms_ssim_of_bytes(image, decoded) if min(height, width) >= MS_SSIM_MIN_SIDE else None
    bits = {
        "bpp_estimated": encoded.estimated_bits,
        "bpp_tables": encoded.table_bits,
        "bpp_streams": 8 * encoded.stream_bytes,
        "bpp_corrections": 8 * encoded.correction_bytes,
        "bpp": 8 * len(data),
    }
    parts = {key: float(value) / (width * height) for key, value in bits.items()}
    row = {
        "name": name,
        "width": width,
        "height": height,
        "bytes": len(data),
        "bpp": parts["bpp"],
        "bpp_estimated": parts["bpp_estimated"],
        "psnr": psnr(image, decoded),
        "ms_ssim": similarity,
        "ms_ssim_db": None if similarity is None else ms_ssim_db(similarity),
        "encode_seconds": encode_seconds,
        "decode_seconds": decode_seconds,
    }
    return row, parts


def _ms_ssim_of_bytes(a: np.ndarray, b: np.ndarray) -> float:
    return float(ms_ssim(*(image[None].astype(np.float32) / 255 for image in (a, b)))[0])


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _peak_memory() -> tuple[int, int | None]:
    """Highest resident memory of this process so far, and of its first device where that is counted; bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    statistics = jax.devices()[0].memory_stats() or {}
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, statistics.get("peak_bytes_in_use")


def published_point(config: ModelConfig, bpp: float) -> dict[str, Any] | None:
    """The authors' Kodak point nearest in bits per pixel, if `config` is one of the reference's three networks."""
    for n, (name, points) in PUBLISHED.items():
        if config == reference_config(n):
            nearest = min(points, key=lambda point: abs(point[0] - bpp))
            return {"name": name, "data": "kodak", "bpp": nearest[0], "psnr": nearest[1]}
    return None


def write_results(report: Report, weights: Weights, output: Path) -> None:
    """Writes results.json and results.csv into the folder `output`. Raises TcmError if that cannot be done."""
    rows = [*report.images, report.mean]
    result = {
        "model": {"name": weights.name, "identity": weights.identity, **weights.metadata},
        "images": [_finite(row) for row in report.images],
        "mean": _finite(report.mean),
        "parts": report.parts,
        "published": published_point(weights.config, report.mean["bpp"]),
        "compile_seconds": report.compile_seconds,
        "peak_memory_bytes": report.peak_memory,
        "peak_device_memory_bytes": report.device_memory,
    }
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    _make_folder(output)
    atomic_write(output / "results.csv", table.getvalue().encode())
    atomic_write(output / "results.json", (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TcmError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: the decibels of a lossless picture become null."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def show(report: Report, weights: Weights, console: Any) -> None:
    """Prints the table, the published point for a reference network, and where the bits and the memory went."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("picture", overflow="fold")
    for heading in ("size", "bytes", "bpp", "est.", "PSNR", "MS-SSIM", "dB", "enc s", "dec s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.images:
        table.add_row(*_cells(row, f"{row['width']}x{row['height']}"))
    mean = report.mean
    table.add_row(*_cells(mean | {"bytes": round(mean["bytes"])}, ""), style="bold")
    console.print(table)
    published = published_point(weights.config, mean["bpp"])
    if published:
        console.print("published: {name} on Kodak, {bpp} bpp, {psnr} dB".format(**published))
    parts = (f"{key.removeprefix('bpp_')} {report.parts[key]:.4f}" for key in PARTS[:-1])
    console.print(f"bits per pixel: {', '.join(parts)}, files {report.parts['bpp']:.4f}", soft_wrap=True)
    device = f", {report.device_memory / 2**20:,.0f} MiB on the device" if report.device_memory else ""
    console.print(
        f"compilation {report.compile_seconds:.1f} s, peak memory {report.peak_memory / 2**20:,.0f} MiB{device}"
    )


def _cells(row: dict[str, Any], size: str) -> list[str]:
    from rich.markup import escape

    digits = {"bpp": 4, "bpp_estimated": 4, "psnr": 2, "ms_ssim": 4, "ms_ssim_db": 2, "encode_seconds": 2,
              "decode_seconds": 2}  # fmt: skip
    numbers = ["-" if row[key] is None else f"{row[key]:.{places}f}" for key, places in digits.items()]
    return [escape(row["name"]), size, f"{row['bytes']:,}", *numbers]


def open_weights(path: str | None) -> Weights:
    """Weights of a safetensors file, a run's folder with Orbax checkpoints, or a reference `.pth.tar`; else embedded.

    Raises WeightsError that says what is missing or does not fit.
    """
    if path is None or not (Path(path).is_dir() or Path(path).suffix in {".tar", ".pth", ".pt"}):
        return checkpoint.load_weights(path)
    path = Path(path)
    if not path.is_dir():
        return checkpoint.make_weights(*convert.convert(path), {"name": path.name})
    config_file = next((file for folder in (path, path.parent) if (file := folder / "config.json").exists()), None)
    if config_file is None:
        raise WeightsError(f"{path} has no config.json in it or beside it; give the folder that train.py wrote")
    try:
        config = json.loads(config_file.read_text())
        name, model = config["name"], ModelConfig.from_dict(config["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{config_file} is no configuration that train.py wrote: {error}") from error
    params, step = checkpoint.load_run(path)
    return checkpoint.make_weights(model, params, {"name": name, "steps": str(step)})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py` and `tcm evaluate`."""
    parser.add_argument("--data", default="samples", help="samples (four photographs of scikit-image; the default), "
                        "a folder, kodak, or tfds:NAME[:SPLIT]")  # fmt: skip
    parser.add_argument("--weights", help="a .safetensors file, a folder of checkpoints or a reference .pth.tar; "
                        "default: the embedded model")  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for results.csv and results.json")
    parser.add_argument("--coder", choices=("auto", "tfc", "native"), default="auto", help="range coder engine")


def run(args: argparse.Namespace) -> Report:
    """Evaluates as the flags of `add_arguments` ask, with a progress bar; prints and writes. Raises TcmError."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    keep_compiled_programs()
    pictures = open_dataset(args.data)
    weights = open_weights(args.weights)
    codec = Codec(weights, coder=args.coder)
    _make_folder(args.output)  # Before the work, not after an hour of it.
    console = Console()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(pictures))
        report = evaluate(codec, pictures, lambda i, name: progress.update(task, completed=i, description=escape(name)))
    show(report, weights, console)
    write_results(report, weights, args.output)
    console.print(f"wrote {args.output / 'results.csv'} and {args.output / 'results.json'}", soft_wrap=True)
    return report


def main(argv: list[str] | None = None) -> int:
    """`evaluate.py`: exit status 1 and one line for a user's error."""
    parser = argparse.ArgumentParser(prog="evaluate.py", description=__doc__)
    add_arguments(parser)
    try:
        run(parser.parse_args(argv))
    except TcmError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0
