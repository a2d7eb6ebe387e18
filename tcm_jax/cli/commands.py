"""`tcm compress` and `tcm decompress`: which files, by which engine; and `tcm convert`."""

import argparse
import functools
import sys
import warnings
from typing import Any

from tcm_jax.cli import batch, cluster, files, manifest
from tcm_jax.cli.one_file import COMPRESS, DECOMPRESS, Command, open_codecs, process_file
from tcm_jax.cli.stages import Stages
from tcm_jax.errors import ConfigError, TcmError
from tcm_jax.images.formats import check_ending, suffixes
from tcm_jax.system.files import check_writable, descriptor
from tcm_jax.system.names import printable, say


def compress(args: argparse.Namespace) -> int:
    """Compresses pictures to `.tcm` files; returns the exit status."""
    return _run(args, COMPRESS, suffixes(), ".tcm")


def decompress(args: argparse.Namespace) -> int:
    """Decompresses `.tcm` files to PNG; returns the exit status."""
    return _run(args, DECOMPRESS, frozenset({".tcm"}), ".png")


def convert(args: argparse.Namespace) -> None:
    """Converts a PyTorch checkpoint to a weight file."""
    output = args.output
    check_ending(output, ".safetensors")
    if args.output.resolve() == args.input.resolve():
        raise ConfigError(f"{output} is the checkpoint itself; give the weights another name")
    if args.lam is None and args.distortion is not None:
        raise ConfigError("--distortion says what a lambda weighs; give --lambda L, too")
    if not args.overwrite:
        files.check_absent(str(output))
    check_writable(output)
    from tcm_jax.weights import pytorch
    from tcm_jax.weights.files import make_weights, save_weights

    trained = {} if args.lam is None else {"lambda": f"{args.lam:g}", "distortion": args.distortion or "mse"}
    weights = make_weights(*pytorch.convert(args.input), {"name": printable(args.input.name)} | trained)
    size = save_weights(output, weights)
    out = sys.stderr if descriptor(output) == 1 else sys.stdout
    say(f"{output}: {size:,} bytes, model {weights.identity[:16]}", out)


def export_onnx(args: argparse.Namespace) -> None:
    """Writes weights as a folder of ONNX programs."""
    folder = args.output
    if not args.overwrite and (folder / "model.json").exists():
        raise TcmError(f"{folder} holds a model; give another folder, or --overwrite to replace it")
    from tcm_jax.codec.onnx.export import export_onnx
    from tcm_jax.training.open_weights import open_weights

    weights = open_weights(args.weights, args.tune)
    size = export_onnx(folder, weights)
    say(f"{folder}: {size:,} bytes, model {weights.identity[:16]}", sys.stdout)


def _run(args: argparse.Namespace, command: Command, wanted: frozenset[str], new_suffix: str) -> int:
    if args.engine == "local":
        return _run_on(args, command, wanted, new_suffix)
    if args.runtime != "jax":
        raise ConfigError("--runtime onnx works with --engine local alone")
    with cluster.connected(args):
        return _run_on(args, command, wanted, new_suffix)


def _run_on(args: argparse.Namespace, command: Command, wanted: frozenset[str], new_suffix: str) -> int:
    plan = files.plan(args.inputs, args.output, args.overwrite, wanted, new_suffix)
    if plan.many and plan.into_folder:
        files.check_folder(args.output, wanted | {new_suffix})
    for job in plan.jobs:
        check_ending(job.target, new_suffix)
    if args.manifest is not None:
        manifest.check(args.manifest, plan.jobs)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd metadata; what matters is in the records
    args.steps_shown = not (plan.many or args.json)  # of many files the bar counts files
    args.makes_folders = plan.into_folder
    stages = Stages()
    codecs = open_codecs(args, stages)
    if command is COMPRESS:
        _check_rate(args, codecs[0])
    if args.engine == "local":
        process = functools.partial(process_file, args, command, stages)
        engine = functools.partial(batch.on_this_machine, codecs, process)
    else:
        engine = functools.partial(cluster.on_cluster, args, command, codecs[0].weights)
    status = batch.run(plan, engine, command.line, args.json, args.manifest)
    if args.verbose:
        stages.show()
    return status


def _check_rate(args: argparse.Namespace, codec: Any) -> None:
    """Raises ConfigError for what would fail on every picture alike, before one of them is read."""
    from tcm_jax.codec.residual.plan import LATENTS_FROM, step_of_error

    rates = (args.quality, args.target_bpp, args.target_psnr)
    if not codec.weights.config.levels and any(rate is not None for rate in rates):
        raise ConfigError(
            f"the weights {codec.weights.name} have one rate; leave out --quality, --target-bpp and --target-psnr"
        )
    if args.quality is not None:
        codec.hundredths(args.quality)
    if args.max_error is not None and step_of_error(args.max_error) < LATENTS_FROM and args.effort:
        raise ConfigError("an effort searches for latents, and a file this close to the picture has none; leave it out")
