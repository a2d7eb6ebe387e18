"""Training steps a second, compilation and memory; beside the authors' PyTorch code, where a checkout of it is given.

    PYTHONPATH=. python benchmarks/train_step.py --config small --batch 2 --crop 256 [--reference LIC_TCM] [--remat]

With `--reference` (installed as codec_vs_reference.py says) the two take turns, so that a busy machine slows both, with
equal weights, pictures and threads, each in its own process; its step is what its train.py does: forward, loss,
backward, clipping, both Adams. Prints JSON: images a second and seconds by step, compilation, XLA's temporary memory of
the step (with `--remat` also that of the rematerialized step), and `speedup` = reference / ours by medians. On a GPU
there are the reference as it comes, whose convolutions take TF32, and the reference without TF32.
"""

import argparse
import functools
import importlib
import json
import time
from pathlib import Path

import cores
import jax
import numpy as np
from apart import Apart, references

from tcm_jax import ops
from tcm_jax.model.initialization import init_params
from tcm_jax.system.memory import prepare_training
from tcm_jax.training import step
from tcm_jax.training.config import model_config
from tcm_jax.training.start import make_state


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="small", choices=("smoke", "tiny", "small", "medium", "large"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5, help="steps that count, after one that does not")
    parser.add_argument("--precision", default="float32", choices=tuple(ops.PRECISIONS))
    parser.add_argument("--remat", action="store_true", help="compile the rematerialized step too, for its memory")
    parser.add_argument("--reference", type=Path, help="a checkout of jmliu206/LIC_TCM")
    parser.add_argument("--threads", type=int, default=2, help="cores that both may use")
    flags = parser.parse_args()
    cores.bind(flags.threads)
    prepare_training()
    name = "smoke" if flags.config == "smoke" else f"tcm_{flags.config}"
    config = importlib.import_module(f"configs.{name}").get_config()
    config.update({"precision": flags.precision})
    batch = np.random.default_rng(0).integers(0, 256, (flags.batch, flags.crop, flags.crop, 3)).astype(np.uint8)
    params = init_params(model_config(config), 0)
    ours = Ours(config, params, batch)
    steps = {"tcm_jax": ours.timed}
    if flags.reference:
        from reference import ReferenceStep

        for name, tf32 in references():
            theirs = Apart(ReferenceStep, flags.reference, config, params, batch, flags.threads, tf32)
            steps[name] = functools.partial(theirs.timed, "step")
    result = {"device": jax.devices()[0].device_kind, "jax": jax.__version__, **vars(flags), **take_turns(steps, flags)}
    result["tcm_jax"] |= {"compile_seconds": ours.compile_seconds, "temporary_mb": ours.temporary_mb}
    if flags.remat:
        config.remat = True
        rematerialized = Ours(config, params, batch)
        result["rematerialized"] = {
            "compile_seconds": rematerialized.compile_seconds,
            "temporary_mb": rematerialized.temporary_mb,
            "share": round(rematerialized.temporary_mb / ours.temporary_mb, 3),
        }
    print(json.dumps(result, indent=1, default=str))


class Ours:
    """The step of train.py, compiled without the persistent cache."""

    def __init__(self, config, params, batch: np.ndarray):
        jax.config.update("jax_enable_compilation_cache", False)
        self.state, self.batch = make_state(params, config), jax.device_put(batch)
        start = time.perf_counter()
        self.program = step.jit_step(config).lower(self.state, self.batch).compile()
        self.compile_seconds = round(time.perf_counter() - start, 2)
        self.temporary_mb = round(self.program.memory_analysis().temp_size_in_bytes / 1e6, 1)

    def timed(self) -> tuple[float, float]:
        """One step: its loss and seconds."""
        start = time.perf_counter()
        self.state, metrics = self.program(self.state, self.batch)
        return float(metrics["loss"]), time.perf_counter() - start


def take_turns(steps: dict, flags: argparse.Namespace) -> dict:
    """Seconds by step and images a second of each, and the ratio of the medians."""
    seconds, losses = {name: [] for name in steps}, {name: [] for name in steps}
    for _ in range(flags.steps + 1):
        for name, run in steps.items():
            loss, elapsed = run()
            losses[name].append(round(loss, 4))
            seconds[name].append(round(elapsed, 3))
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    result = {
        name: {
            "first": times[0],
            "seconds": times[1:],
            "median": medians[name],
            "images_per_second": round(flags.batch / medians[name], 3),
            "losses": losses[name],
        }
        for name, times in seconds.items()
    }
    for name in steps.keys() - {"tcm_jax"}:
        result[name.replace("reference", "speedup")] = round(medians[name] / medians["tcm_jax"], 3)
    return result


if __name__ == "__main__":
    main()
