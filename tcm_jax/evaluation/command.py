"""Rate and quality of models, other codecs and published curves on real pictures: tables, CSV, JSON, and a report."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tcm_jax.codec.effort import TUNES, Effort
from tcm_jax.codec.refinement import SEED
from tcm_jax.errors import ConfigError, TcmError
from tcm_jax.evaluation import bdrate, results
from tcm_jax.evaluation.codecs import OTHER_CODECS, other_codec
from tcm_jax.evaluation.console import escape, show
from tcm_jax.evaluation.provenance import provenance
from tcm_jax.evaluation.sweep import Point, dataset, loaded_weights, measure_all
from tcm_jax.images.formats import check_ending
from tcm_jax.system.arguments import Parser
from tcm_jax.system.devices import local_devices
from tcm_jax.system.files import check_writable, descriptor
from tcm_jax.system.names import file_name, file_path, say
from tcm_jax.system.process import tune_process
from tcm_jax.system.signals import INTERRUPTED, outcome
from tcm_jax.weights.embedded import embedded_for

LADDER = (1.0, 20.0, 40.0, 60.0, 80.0, 95.0)  # of variable-rate weights, unless --qualities are given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `evaluate.py` and `tcm evaluate`."""
    parser.add_argument("--data", nargs="+", default=["samples"], metavar="SET", help="samples (four photographs of "
                        "scikit-image; the default), a folder, kodak, or tfds:NAME[:SPLIT]")  # fmt: skip
    parser.add_argument("--weights", type=file_name, nargs="+", metavar="FILE", help="a "
                        ".safetensors file, a folder of checkpoints or a reference .pth.tar; each a point; default: "
                        "the embedded model of --tune")  # fmt: skip
    parser.add_argument("--qualities", type=_numbers, metavar="Q,Q,...", help="1 to 100, of variable-rate weights and "
                        "of the other codecs; default: a ladder of six for each")  # fmt: skip
    parser.add_argument("--efforts", type=_numbers, default=[0.0], metavar="N,N,...", help="0 to 9, of the models: how "
                        "long the encoder searches; a curve each (default: 0)")  # fmt: skip
    parser.add_argument("--tune", choices=TUNES, help="which embedded model, and what efforts are for; default: "
                        "visual, or what --weights were trained for")  # fmt: skip
    parser.add_argument("--codecs", type=_names, default=[], metavar="NAME,...",
                        help=f"other codecs to measure: {', '.join(OTHER_CODECS)}")  # fmt: skip
    parser.add_argument("--anchor", default="vtm", help="of the BD-rates: a published curve or a codec (default: vtm)")
    parser.add_argument("--interpolation", choices=bdrate.INTERPOLATIONS, default="pchip", help="of the BD-rates")
    parser.add_argument("--output", type=file_path, default=Path("results"),
                        help="folder for results.csv, .json and .md, and for what was measured so far")  # fmt: skip
    parser.add_argument("--report", type=file_path, metavar="FILE.html", help="also write one HTML page with all of it")
    parser.add_argument("--report-pictures", type=int, default=24, metavar="N",
                        help="pictures of each data set in the report (default: 24)")  # fmt: skip
    parser.add_argument("--processes", type=int, default=1, help="worker processes; they share the devices out")
    parser.add_argument("--coder", choices=("auto", "tfc", "native"), default="auto", help="the range coder")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 10,50,90")
    return numbers


def operating_points(
    weights: Sequence[str | None],
    codecs: Sequence[str],
    qualities: Sequence[float] | None,
    coder: str = "auto",
    efforts: Sequence[float] = (0.0,),
    tune: str | None = None,
) -> list[Point]:
    """Every point to measure.

    Raises ConfigError for qualities and efforts out of range and for codecs that do not exist.
    """
    for quality in qualities or ():
        if not 1 <= quality <= 100 or (codecs and quality != round(quality)):
            kind = "whole number" if codecs else "number"
            raise ConfigError(f"quality {quality:g} is no {kind} from 1 to 100")
    points = []
    for path in weights:
        ladder = (qualities or LADDER) if loaded_weights(path).config.levels else (None,)
        for level in efforts:
            effort = Effort(int(level) if level == int(level) else level, tune)  # type: ignore[arg-type]
            points += [Point("tcm", quality, path, coder, effort.level, tune) for quality in ladder]
    for name in codecs:
        points += [Point(name, float(quality)) for quality in qualities or other_codec(name).ladder]
    return list(dict.fromkeys(points))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates as the flags of `add_arguments` ask, with a progress bar; prints and writes. Raises TcmError.

    Codecs that fail on a picture are an error too, but one that is raised when all else is written.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    local_devices()
    tune_process()
    if args.report:
        check_ending(args.report, ".html")
    for option, number, least in (("processes", args.processes, 1), ("report-pictures", args.report_pictures, 0)):
        if number < least:
            raise ConfigError(f"--{option} is {number}; give at least {least}")
    bdrate.check()
    args.weights = args.weights or [str(embedded_for(args.tune))]
    for spec in args.data:
        dataset(spec)
    points = operating_points(args.weights, args.codecs, args.qualities, args.coder, args.efforts, args.tune)
    results.check_anchor(args.anchor, points)
    results.make_folder(args.output)  # Before the work, not after an hour of it.
    if args.report:
        check_writable(args.report)
    console = Console(stderr=args.report is not None and descriptor(args.report) == 1)
    _say_rates(args, console)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        found = measure_all(args.data, points, args.output / "cache", args.processes,
                      lambda done, total, name: progress.update(task, completed=done, total=total,
                                                                description=escape(name)))  # fmt: skip
    seeds = {"efforts": SEED} if any(point.effort for point in points) else {}
    origin = provenance(seeds) | {"processes": args.processes}
    result = results.build(found, args.anchor, args.interpolation, origin)
    show(result, console)
    files = results.write(result, args.output)
    if args.report:
        files.append(_write_report(args, points, result, console))
    console.print(f"wrote {escape(', '.join(map(str, files)))}", soft_wrap=True)
    if failures := [row for one in result["sets"] for curve in one["curves"] for point in curve["points"]
                    for row in point["images"] if row["error"]]:  # fmt: skip
        raise TcmError(f"{len(failures)} measurements failed; the results name them, and all else is in them")
    return result


def _write_report(args: argparse.Namespace, points: list[Point], result: dict[str, Any], console: Any) -> Path:
    """Writes the report of a result, with pictures of its first model's middle point."""
    from tcm_jax.evaluation.complexity_table import complexity_table
    from tcm_jax.evaluation.report import write_report
    from tcm_jax.evaluation.report.gallery import galleries

    cache = args.output / "cache"
    first = [point for point in points if point.codec == "tcm" and point.weights == args.weights[0]]
    first = [point for point in first if point.effort == first[0].effort]
    with console.status("report") as status:
        shown = galleries(args.data, first[len(first) // 2], args.codecs, cache, args.report_pictures,
                          lambda name: status.update(f"pictures of the report: {escape(name)}"))  # fmt: skip
        status.update("counting the work of the networks")
        rows = complexity_table(_measured_models(result), cache)
    write_report(args.report, result, shown, rows)
    return args.report


def _measured_models(result: dict[str, Any]) -> list[tuple[str, Any, dict[str, Any]]]:
    """(name, configuration, mean seconds of the middle point on the first data set), for the complexity table."""
    models = []
    for curve in (curve for curve in result["sets"][0]["curves"] if curve["kind"] == "tcm"):
        point = curve["points"][len(curve["points"]) // 2]
        found = {key: point["mean"][key] for key in ("encode_seconds", "decode_seconds")}
        models.append((curve["name"], loaded_weights(point["weights"]).config, found))
    return models


def _say_rates(args: argparse.Namespace, console: Any) -> None:
    """Names the weights that have one rate, to which --qualities do not apply."""
    for path in args.weights if args.qualities else ():
        weights = loaded_weights(path)
        if not weights.config.levels:
            lam = weights.metadata.get("lambda", "unknown")
            console.print(
                f"{escape(weights.name)} has one rate (lambda {escape(lam)}): one point, whatever the --qualities",
                soft_wrap=True,
            )


def main(argv: list[str] | None = None) -> int:
    """Runs `evaluate.py`; returns the exit status: 1 after one line for a user's error, 130 for Ctrl-C."""
    parser = Parser(prog="evaluate.py", description=__doc__)
    add_arguments(parser)
    status = outcome(lambda: run(parser.parse_args(argv)))
    if status == INTERRUPTED:
        say("stopped; the same command goes on from here", sys.stderr)
    return status
