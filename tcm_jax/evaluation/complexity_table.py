"""The complexity table: parameters and work of the models at hand and of the paper's, beside published figures."""

import hashlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from tcm_jax.evaluation.measure import TcmMeter
from tcm_jax.evaluation.provenance import source_digest
from tcm_jax.evaluation.sweep import peak_memory
from tcm_jax.images.datasets import open_dataset
from tcm_jax.model import complexity
from tcm_jax.model.config import ModelConfig, reference_config
from tcm_jax.model.initialization import init_params
from tcm_jax.system.cache import kept_json
from tcm_jax.system.process import tune_process
from tcm_jax.weights.files import make_weights

REFERENCES = {"TCM small": 64, "TCM medium": 96, "TCM large": 128}
SIZE = (512, 768)  # height, width that the work is counted for
REPEATS = 3
_COUNTS = ("parameters", "gmac", "attention_gmac", "kmac_per_pixel", "parts")


def complexity_table(
    models: Sequence[tuple[str, ModelConfig, dict[str, float | None]]], folder: Path | None, time_all: bool = False
) -> list[dict[str, Any]]:
    """Rows {"name", "parameters", "parts", "published_parameters", "independent_gmac", "encode_seconds", ...}.

    First the three networks of the paper, then `models`: name, configuration and what was measured, a row each, since
    several models may have equal configurations. "parts" holds {"parameters", "gmac", "attention_gmac"} by part, of one
    pass over a picture of 768x512. Counts lie in `folder`. With `time_all` every row is `timed`, with a progress bar.
    """
    measured = ("encode_seconds", "decode_seconds", "peak_memory_bytes")
    rows = []
    for name, n in REFERENCES.items():
        config = reference_config(n)
        weights, attention = complexity.INDEPENDENT_GMAC[n]
        rows.append((config, {"name": name, **_counts(config, folder), **dict.fromkeys(measured)} | {
            "published_parameters": complexity.PUBLISHED_PARAMETERS[n] * 1e6,
            "independent_gmac": weights, "independent_attention_gmac": attention,
        }))  # fmt: skip
    rows += [(config, {"name": name, **_counts(config, folder), **found}) for name, config, found in models]
    if time_all:
        for config, row in track(rows, "timing", console=Console(stderr=True), transient=True):
            row |= timed(config)
    return [row for _, row in rows]


def timed(config: ModelConfig) -> dict[str, float]:
    """{"encode_seconds", "decode_seconds"} for a photograph of SIZE, medians of REPEATS, and "peak_memory_bytes".

    With initial parameters, since the network's work is the same with any; in a process of its own, whose memory is
    then this network's. Compilation is not in the seconds.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_time, config).result()


def _time(config: ModelConfig) -> dict[str, float]:
    from tcm_jax.codec import Codec

    tune_process()
    picture = open_dataset("samples")[0]
    widened = ((0, 0), (0, SIZE[1] - picture.shape[1]), (0, 0))
    picture = np.pad(picture, widened, "reflect")[: SIZE[0]]
    meter = TcmMeter(Codec(make_weights(config, init_params(config, 0), {})))
    rows = [meter.measure("", picture, None)[0] for _ in range(REPEATS)]
    seconds = {key: median(row[key] for row in rows) for key in ("encode_seconds", "decode_seconds")}
    return seconds | {"peak_memory_bytes": peak_memory()[0]}


def _counts(config: ModelConfig, folder: Path | None) -> dict[str, Any]:
    """What does not change with the machine, counted once for a configuration."""
    sources = source_digest("model", "entropy", "ops")
    name = f"work-{hashlib.sha256((config.to_json() + sources).encode()).hexdigest()[:40]}.json"
    return kept_json(folder and folder / name, lambda: _count(config), lambda row: row.keys() == set(_COUNTS))


def _count(config: ModelConfig) -> dict[str, Any]:
    parameters, macs = complexity.parameters(config), complexity.macs(config, *SIZE)
    parts = {
        part: {
            "parameters": parameters[part],
            "gmac": macs[part].weights / 1e9,
            "attention_gmac": macs[part].attention / 1e9,
        }
        for part in complexity.PARTS
    }
    total = sum(macs.values(), complexity.Macs())
    return {
        "parameters": sum(parameters.values()),
        "gmac": total.weights / 1e9,
        "attention_gmac": total.attention / 1e9,
        "kmac_per_pixel": total.total / (SIZE[0] * SIZE[1]) / 1e3,
        "parts": parts,
    }
