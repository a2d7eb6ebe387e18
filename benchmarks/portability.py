"""How far the numbers of two software stacks differ, and whether each decodes what the other wrote.

    python benchmarks/portability.py encode PICTURES FILES_A [--weights W] [--guard-band B]     # on stack A
    python benchmarks/portability.py decode FILES_A A_ON_A.npz [--weights W]                    # on stack A
    python benchmarks/portability.py decode FILES_A A_ON_B.npz [--weights W]                    # on stack B
    python benchmarks/portability.py compare A_ON_A.npz A_ON_B.npz

then the same with files of stack B. A stack is an environment, a machine, or a setting: XLA_FLAGS of
--xla_cpu_multi_thread_eigen=false, `taskset -c 0`. Each command prints JSON. `decode` keeps what the decoder computed
from the file's symbols, which are the same on both sides because their checksums are, up to the slice that fails. With
a wide band (0.01) files decode anywhere, so that the noise is seen whole.
"""

import argparse
import itertools
import json
import os
import platform
import time
from pathlib import Path
from unittest import mock

import jax
import numpy as np

from tcm_jax.codec import tiled_network
from tcm_jax.codec.codec import Codec
from tcm_jax.codec.container import parse
from tcm_jax.codec.guard_band import GUARD_BAND
from tcm_jax.entropy.table_choice import boundary_positions
from tcm_jax.entropy.tables import build_indexes, scale_table
from tcm_jax.errors import TcmError
from tcm_jax.images.datasets import open_dataset, short_names
from tcm_jax.system import cores
from tcm_jax.system.process import tune_process
from tcm_jax.training.open_weights import open_weights

PARTS = ("mu", "sigma", "picture")
BANDS = (2e-6, 5e-6, 1e-5, 2e-5, 4e-5, 8e-5)


def main() -> None:
    """Parses the command line, runs one command, prints its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (encode, decode, compare):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.add_argument("source", type=Path)
        sub.add_argument("target", type=Path)
        sub.set_defaults(command=command)
        if command is not compare:
            sub.add_argument("--weights", help="default: the embedded model")
        if command is encode:
            sub.add_argument("--guard-band", type=float, default=GUARD_BAND)
    flags = parser.parse_args()
    tune_process()
    print(json.dumps(flags.command(flags), indent=1))


def stack() -> dict:
    """What the arithmetic may depend on."""
    return {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "cores": cores.available(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def encode(flags: argparse.Namespace) -> dict:
    """Writes a .tcm file for every picture of a folder, or of `kodak` or `samples`."""
    codec = Codec(open_weights(flags.weights), guard_band=flags.guard_band)
    flags.target.mkdir(parents=True, exist_ok=True)
    files, pictures = {}, open_dataset(str(flags.source))
    for i, name in enumerate(short_names(pictures)):
        encoded, stem = codec.encode(pictures[i]), Path(name).stem
        (flags.target / f"{stem}.tcm").write_bytes(encoded.data)
        files[stem] = {"bytes": len(encoded.data), "sides_bytes": encoded.sides_bytes}
    total = {key: sum(file[key] for file in files.values()) for key in ("bytes", "sides_bytes")}
    return {"stack": stack(), "guard_band": flags.guard_band, "total": total, "files": files}


def decode(flags: argparse.Namespace) -> dict:
    """Decodes a folder of .tcm files and keeps means, scales and pictures in an .npz file."""
    codec = Codec(open_weights(flags.weights), coder="native")
    kept, files = {}, {}
    for path in sorted(flags.source.glob("*.tcm")):
        start = time.perf_counter()
        arrays, error = observed(codec, path.read_bytes())
        seconds = round(time.perf_counter() - start, 2)
        kept |= {f"{path.stem}/{part}": array for part, array in arrays.items()}
        files[path.stem] = {"error": error, "seconds": seconds, "checksums": parse(path.read_bytes()).checksums}
    result = {"stack": stack(), "failed": sum(bool(file["error"]) for file in files.values()), "files": files}
    np.savez(flags.target, summary=json.dumps(result), **kept)
    return result


def observed(codec: Codec, data: bytes) -> tuple[dict[str, np.ndarray], str | None]:
    """(mu, sigma [slices, h, w, channels] and, if there is no error, the picture; the error)."""
    slices, exact, arrays, error = [], tiled_network.PROGRAMS["slice_params"], {}, None

    def observer(*args):
        slices.append(exact(*args))
        return slices[-1]

    with mock.patch.dict(tiled_network.PROGRAMS, slice_params=observer):
        try:
            arrays["picture"] = codec.decompress(data)
        except TcmError as problem:
            error = f"{type(problem).__name__}: {problem}"
    for i, part in enumerate(("mu", "sigma")):
        if slices:
            arrays[part] = np.stack([np.asarray(computed[i]) for computed in slices])
    return arrays, error


def compare(flags: argparse.Namespace) -> dict:
    """Prints how far two results of `decode` on the same files differ."""
    a, b = np.load(flags.source), np.load(flags.target)
    summaries = [json.loads(str(side["summary"])) for side in (a, b)]
    names = [summary["files"] for summary in summaries]
    if {n: f["checksums"] for n, f in names[0].items()} != {n: f["checksums"] for n, f in names[1].items()}:
        raise SystemExit("the two do not come from the same .tcm files")
    pairs = {part: [] for part in PARTS}
    for name in names[0]:
        for part in PARTS:
            if f"{name}/{part}" in a and f"{name}/{part}" in b:
                pairs[part].append((a[f"{name}/{part}"], b[f"{name}/{part}"]))
    picture = [np.abs(x.astype(int) - y).max() for x, y in pairs["picture"]]
    return {
        "stacks": [summary["stack"] for summary in summaries],
        "files": len(names[0]),
        "failed": [summary["failed"] for summary in summaries],
        "pictures": {"compared": len(picture), "largest_difference": int(max(picture, default=0))},
        "mu": {"largest_difference": max((float(np.abs(x - y).max()) for x, y in map(common, pairs["mu"])), default=0)},
        "sigma": noise([common(pair) for pair in pairs["sigma"]]),
    }


def common(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The slices that both sides reached, flat and in float64."""
    slices = min(len(side) for side in pair)
    return tuple(side[:slices].ravel().astype(np.float64) for side in pair)


def noise(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """Differences of the scales from 10 % below the first table boundary to 10 % above the last.

    `by_scale`: [symbols, largest difference, largest relative difference] up to each scale. `by_band`: of how many
    symbols a file with this guard band tells the side, how many differ by more than the band, and how many wrong tables
    that makes on average: boundaries are spread evenly in log scale, so a relative difference r crosses one outside the
    band with probability (r - band) / step.
    """
    if not pairs:
        return {"compared": 0}
    x, y = (np.concatenate(side) for side in zip(*pairs, strict=True))
    boundaries = scale_table()[:-1].astype(np.float64)
    inside = (x > 0.9 * boundaries[0]) & (x < 1.1 * boundaries[-1])
    x, difference = x[inside], np.abs(y - x)[inside]
    relative, step = difference / x, np.log(boundaries[1] / boundaries[0])
    by_scale, by_band = {}, {}
    for low, high in itertools.pairwise((0, 0.2, 0.5, 1, 2, 5, 10, 250)):
        here = (x >= low) & (x < high)
        largest = [float(values[here].max(initial=0)) for values in (difference, relative)]
        by_scale[str(high)] = [int(here.sum()), *largest]
    for band in BANDS:
        beyond = relative[relative > band]
        by_band[str(band)] = {
            "sides": boundary_positions(x, 2 * band).size,
            "beyond": beyond.size,
            "wrong_on_average": float((beyond - band).sum() / step),
        }
    other = int((build_indexes(x) != build_indexes(y[inside])).sum())
    return {"compared": inside.size, "inside": x.size, "other_index": other, "by_scale": by_scale, "by_band": by_band}


if __name__ == "__main__":
    main()
