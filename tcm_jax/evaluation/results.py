"""What a sweep found, as one JSON-ready dictionary, and its forms: results.json, results.csv, results.md."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tcm_jax.errors import ConfigError, TcmError
from tcm_jax.evaluation import anchors, bdrate
from tcm_jax.evaluation.codecs import other_codec
from tcm_jax.evaluation.measure import COLUMNS
from tcm_jax.evaluation.sweep import Point, aggregate, loaded_weights, model_name
from tcm_jax.images.datasets import short_name
from tcm_jax.system.files import atomic_write
from tcm_jax.system.names import encoded, printable

QUALITIES = {"psnr": "PSNR", "ms_ssim_db_of_mean": "MS-SSIM (dB)", "ssimulacra2": "SSIMULACRA 2"}
_PUBLISHED_QUALITIES = {"psnr": "psnr", "ms_ssim_db_of_mean": "ms_ssim_db"}


def check_anchor(anchor: str, points: Sequence[Point]) -> None:
    """Raises ConfigError for an anchor that no published curve has, nor a curve that is measured at `points`."""
    measured = [model_name(point) if point.codec == "tcm" else point.codec for point in points]
    names = dict.fromkeys([*anchors.LABELS, *measured])
    if anchor not in names:
        raise ConfigError(f"--anchor {anchor!r} is no curve of this run; choose from {', '.join(names)}, or name a "
                          "codec in --codecs too")  # fmt: skip


def build(
    found: dict[tuple[str, Point], list[dict[str, Any]]], anchor: str, interpolation: str, provenance: dict[str, Any]
) -> dict[str, Any]:
    """The result of `sweep.measure_all`.

    {"provenance", "sets": [{"name", "spec", "pictures", "curves", "published", "bd_rate"}], "compile_seconds",
    "peak_memory_bytes", "peak_device_memory_bytes"}; a curve is {"name", "label", "settings", "kind", "points"}, a
    point {"label", "quality", "weights", "model", "images" (rows), "mean"}. Two sets may have one name, but not one
    spec. `anchor` is the BD-rates' ("vtm", a codec's name); where a data set has no such curve, its first other codec
    is.
    """
    sets = []
    for spec in dict.fromkeys(spec for spec, _ in found):
        measured = {point: entries for (name, point), entries in found.items() if name == spec}
        curves = _curves(measured)
        count = len(next(iter(measured.values())))
        name = short_name(spec)
        shown = [dataclasses.asdict(c) | {"ms_ssim_db": c.ms_ssim_db} for c in anchors.anchors_of(name, count).values()]
        one = {"name": name, "spec": spec, "pictures": count, "curves": curves, "published": shown}
        sets.append(one | {"bd_rate": bd_rates(one, anchor, interpolation)})
    entries = [entry for point_entries in found.values() for entry in point_entries]
    device = [entry["device_memory"] for entry in entries if entry["device_memory"]]
    return {
        "provenance": provenance,
        "sets": sets,
        "compile_seconds": sum(entry["compile_seconds"] for entry in entries if entry["computed"]),
        "peak_memory_bytes": max(entry["peak_memory"] for entry in entries),
        "peak_device_memory_bytes": max(device, default=None),
    }


def _curves(measured: dict[Point, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One curve a codec; weights of one rate and one architecture are points of one."""
    curves: dict[Any, dict[str, Any]] = {}
    for point, entries in measured.items():
        rows = [entry["row"] for entry in entries]
        if point.codec == "tcm":
            weights = loaded_weights(point.weights)
            key: Any = (weights.identity if weights.config.levels else weights.config, point.effort, point.tune)
            name = model_name(point)
            model = {**weights.metadata, "name": name, "identity": weights.identity}
            fresh = {"name": name, "label": name, "kind": "tcm", "settings": "docs/format.md"}
            lam = weights.metadata.get("lambda")
            label = f"quality {point.quality:g}" if point.quality else f"lambda {lam}" if lam else weights.name
        else:
            codec = other_codec(point.codec)
            key, model, label = point.codec, None, f"quality {point.quality:g}"
            fresh = {"name": codec.name, "label": codec.label, "kind": "other",
                     "settings": f"{codec.settings}; {codec.library}"}  # fmt: skip
        curve = curves.setdefault(key, fresh | {"points": []})
        one = {"label": label, "quality": point.quality, "weights": point.weights, "model": model}
        curve["points"].append(one | {"images": rows, "mean": aggregate(rows)})
    for curve in curves.values():
        curve["points"].sort(key=lambda point: point["mean"]["bpp"] or math.inf)  # None: of no picture
    return list(curves.values())


def bd_rates(one: dict[str, Any], anchor: str, interpolation: str) -> list[dict[str, Any]]:
    """BD-rate of every curve of a data set, measured and published, against one anchor, for each quality metric.

    A curve of one point has no BD-rate; it gets `rate_difference`, its bits over the anchor's at its quality.
    """
    table = []
    for metric, title in QUALITIES.items():
        curves = _all_curves(one, metric)
        wanted = [(f"published {anchor}", curves.get(f"published {anchor}")), (anchor, curves.get(anchor))]
        kinds = {curve["name"]: curve["kind"] for curve in one["curves"]}
        wanted += [
            (name, curves[name]) for name in sorted(kinds, key=lambda name: kinds[name] == "tcm") if name in curves
        ]
        chosen = next(((name, curve) for name, curve in wanted if curve and len(curve[1]) > 1), None)
        if chosen is None:
            continue
        for name, (label, rates, qualities) in curves.items():
            if name == chosen[0]:
                continue
            row: dict[str, Any] = {"metric": title, "curve": name, "label": label, "anchor": chosen[1][0]}
            delta = bdrate.bd_rate(chosen[1][1:], (rates, qualities), interpolation)
            at = bdrate.rate_at(chosen[1][1:], qualities[0]) if len(rates) == 1 else None
            row["rate_difference"] = None if at is None else 100 * (rates[0] / at - 1)
            fields = [field.name for field in dataclasses.fields(bdrate.BdRate)]
            table.append(row | (dataclasses.asdict(delta) if delta else dict.fromkeys(fields)))
    return table


def _all_curves(one: dict[str, Any], metric: str) -> dict[str, tuple[str, list[float], list[float]]]:
    """{name: (label, bits per pixel, qualities)}; without means of infinite quality, or of fewer pictures."""
    curves = {}
    for curve in one["curves"]:
        means = [point["mean"] for point in curve["points"] if not point["mean"]["failed"]]
        pairs = [(m["bpp"], m[metric]) for m in means if m[metric] is not None and math.isfinite(m[metric])]
        if pairs:
            rates, qualities = map(list, zip(*pairs, strict=True))
            curves[curve["name"]] = (curve["label"], rates, qualities)
    for curve in one["published"]:
        if qualities := curve.get(_PUBLISHED_QUALITIES.get(metric, "")):
            curves[f"published {curve['name']}"] = (f"{curve['label']}, published", list(curve["bpp"]), list(qualities))
    return curves


def write(result: dict[str, Any], output: Path) -> list[Path]:
    """Writes results.json, results.csv and results.md into the folder `output`. Raises TcmError if that fails."""
    make_folder(output)
    files = {
        "results.json": json.dumps(finite(result), indent=1, allow_nan=False) + "\n",
        "results.csv": _csv(result),
        "results.md": markdown(result),
    }
    for name, text in files.items():
        atomic_write(output / name, encoded(text))
    return [output / name for name in files]


def make_folder(folder: Path) -> None:
    """Raises TcmError that names the folder and the reason if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TcmError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def finite(value: Any) -> Any:
    """The value without infinities, which JSON does not have: None in their place."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(result: dict[str, Any]) -> str:
    """One row a picture and point; version, commit, device and command in every row."""
    origin = {key: result["provenance"][key] for key in ("tcm_jax", "commit", "device", "command")}
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["data", "codec", "quality", *COLUMNS, *origin])
    writer.writeheader()
    for one in result["sets"]:
        for curve in one["curves"]:
            for point in curve["points"]:
                head = {"data": one["name"], "codec": point["model"]["name"] if point["model"] else curve["name"],
                        "quality": point["quality"]}  # fmt: skip
                writer.writerows(head | row | origin for row in point["images"])
    return table.getvalue()


def markdown(result: dict[str, Any]) -> str:
    """The means and the BD-rates as tables, and where they come from."""
    origin = result["provenance"]
    lines = ["# Results", "", f"Written by `{printable(origin['command'])}`; not edited.", ""]
    for one in result["sets"]:
        lines += [f"## {printable(one['name'])}, {one['pictures']} pictures", "", *_means_table(one), ""]
        lines += [f"- {printable(curve['label'])}: {curve['settings']}" for curve in one["curves"]]
        lines += [f"- {printable(note)}" for note in notes(one)]
        lines += ["", *_bd_table(one["bd_rate"])]
    libraries, seeds = (
        ", ".join(f"{name} {value}" for name, value in origin[key].items()) for key in ("libraries", "seeds")
    )
    lines += ["## Where this comes from", "", f"- tcm_jax {origin['tcm_jax']}, commit {origin['commit']}",
              f"- {origin['device']}; {origin['processor']}; {origin['system']}", f"- {libraries}",
              f"- {origin['time']}; seeds: {seeds or 'none, nothing is drawn at random'}", ""]  # fmt: skip
    return "\n".join(lines)


_MEANS = (("bpp", "bpp", 4), ("psnr", "PSNR", 2), ("psnr_of_mean_mse", "PSNR of mean MSE", 2),
          ("ms_ssim", "MS-SSIM", 4),
          ("ms_ssim_db_of_mean", "MS-SSIM (dB)", 2), ("ssimulacra2", "SSIMULACRA 2", 1), ("encode_seconds", "enc s", 3),
          ("decode_seconds", "dec s", 3))  # fmt: skip


def _means_table(one: dict[str, Any]) -> list[str]:
    points = [(curve, point) for curve in one["curves"] for point in curve["points"]]
    shown = [column for column in _MEANS if any(point["mean"][column[0]] is not None for _, point in points)]
    rows = [[curve["label"], point["label"], *(number(point["mean"][key], digits) for key, _, digits in shown)]
            for curve, point in points]  # fmt: skip
    return _table(["codec", "point", *(title for _, title, _ in shown)], rows)


def _bd_table(table: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for metric in dict.fromkeys(row["metric"] for row in table):
        rows = [row for row in table if row["metric"] == metric]
        method = next((row["interpolation"] for row in rows if row["interpolation"]), "no curve")
        lines += [f"BD-rate for {metric} against {rows[0]['anchor']} ({method}):", ""]
        lines += [
            *_table(["curve", "BD-rate", "points (anchor, curve)", "overlap"], [bd_cells(row) for row in rows]),
            "",
        ]
    return lines


def notes(one: dict[str, Any]) -> list[str]:
    """What the means of a data set leave out: pictures that a codec failed on, and infinite decibels."""
    found = []
    for curve in one["curves"]:
        for point in curve["points"]:
            mean, what = point["mean"], f"{curve['label']}, {point['label']}"
            if mean["failed"]:
                first = next(row for row in point["images"] if row["error"])
                found.append(f"{what}: {mean['failed']} of {mean['pictures']} pictures failed and are in no mean, nor "
                             f"the point in a BD-rate; {first['name']}: {first['error']}")  # fmt: skip
            if mean["lossless"]:
                found.append(f"{what}: {mean['lossless']} of {mean['pictures']} pictures came back exactly; means of "
                             "PSNR are of the others, if there are any")  # fmt: skip
    return found


def bd_cells(row: dict[str, Any]) -> list[str]:
    """Label, percent, points and overlap of a BD-rate, or the rate difference of a single point."""
    if row["percent"] is not None:
        overlap = f"{row['low']:.2f} to {row['high']:.2f} ({100 * row['overlap']:.0f} %)"
        return [row["label"], f"{row['percent']:+.2f} %", f"{row['anchor_points']}, {row['test_points']}", overlap]
    if row["rate_difference"] is not None:
        return [row["label"], f"one point: {row['rate_difference']:+.2f} % at its quality", "-", "-"]
    return [row["label"], "no overlap", "-", "-"]


def number(value: float | None, digits: int) -> str:
    """A number as fixed-point text, or "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def thousands(value: float | None) -> str:
    """A number as whole text with commas, or "-" for None."""
    return "-" if value is None else f"{round(value):,}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(map(_cell, cells))} |" for cells in (head, ["---"] * len(head), *rows)]


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")
