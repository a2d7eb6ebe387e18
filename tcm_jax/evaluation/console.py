"""A result on the terminal: a table of pictures for one point, of means for several, and the BD-rates."""

from typing import Any

from rich.console import Console
from rich.markup import escape as without_markup
from rich.table import Table

from tcm_jax.evaluation.anchors import nearest_point
from tcm_jax.evaluation.results import bd_cells, notes, number, thousands
from tcm_jax.evaluation.sweep import loaded_weights
from tcm_jax.system.names import printable

_DIGITS = {"bpp": 4, "bpp_estimated": 4, "psnr": 2, "ms_ssim": 4, "ms_ssim_db": 2, "ssimulacra2": 1,
           "encode_seconds": 2, "decode_seconds": 2}  # fmt: skip
_HEADS = {"bpp": "bpp", "bpp_estimated": "est.", "psnr": "PSNR", "ms_ssim": "MS-SSIM", "ms_ssim_db": "dB",
          "ssimulacra2": "SSIMU2", "encode_seconds": "enc s", "decode_seconds": "dec s"}  # fmt: skip


def escape(text: str) -> str:
    """A name as Rich prints it unchanged."""
    return without_markup(printable(text))


def show(result: dict[str, Any], console: Console) -> None:
    """Prints every data set, then what compiling took, and memory."""
    for one in result["sets"]:
        points = [(curve, point) for curve in one["curves"] for point in curve["points"]]
        if len(points) == 1:
            _show_pictures(one, points[0][1], console)
        else:
            _show_points(one, points, console)
        for note in notes(one):
            console.print(escape(note), soft_wrap=True)
        _show_bd_rates(one, console)
    device = result["peak_device_memory_bytes"]
    on_device = f", {device / 2**20:,.0f} MiB on the device" if device else ""
    console.print(f"compilation {result['compile_seconds']:.1f} s, peak memory "
                  f"{result['peak_memory_bytes'] / 2**20:,.0f} MiB{on_device}")  # fmt: skip


def _table(columns: list[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
    return table


def _show_pictures(one: dict[str, Any], point: dict[str, Any], console: Console) -> None:
    mean = point["mean"]
    keys = [key for key in _DIGITS if mean[key] is not None]
    table = _table(["picture", "size", "bytes", *(_HEADS[key] for key in keys)])
    for row in point["images"]:
        numbers = [number(row[key], _DIGITS[key]) for key in keys]
        table.add_row(escape(row["name"]), f"{row['width']}x{row['height']}", thousands(row["bytes"]), *numbers)
    numbers = [number(mean[key], _DIGITS[key]) for key in keys]
    table.add_row("mean", "", thousands(mean["bytes"]), *numbers, style="bold")
    console.print(table)
    _show_model(one, point, console)


def _show_model(one: dict[str, Any], point: dict[str, Any], console: Console) -> None:
    """Prints the authors' nearest point for a reference network, and where the bits go."""
    mean = point["mean"]
    if point["model"] is None or mean["bpp"] is None:
        return
    published = nearest_point(loaded_weights(point["weights"]).config, mean["bpp"])
    if published:
        console.print("published: {name} on Kodak, {bpp} bpp, {psnr} dB".format(**published))
    parts = (f"{key} {mean[f'bpp_{key}']:.4f}" for key in ("estimated", "tables", "streams", "sides"))
    console.print(f"bits per pixel: {', '.join(parts)}, files {mean['bpp']:.4f}", soft_wrap=True)


def _show_points(one: dict[str, Any], points: list[tuple[dict, dict]], console: Console) -> None:
    keys = [key for key in _DIGITS if key != "bpp_estimated" and any(p["mean"][key] is not None for _, p in points)]
    table = _table([f"{escape(one['name'])}, {one['pictures']}", "point", *(_HEADS[key] for key in keys)])
    for curve, point in points:
        numbers = [number(point["mean"][key], _DIGITS[key]) for key in keys]
        style = "bold" if curve["kind"] == "tcm" else None
        table.add_row(escape(curve["label"]), escape(point["label"]), *numbers, style=style)
    console.print(table)


def _show_bd_rates(one: dict[str, Any], console: Console) -> None:
    measured = {curve["name"] for curve in one["curves"]}
    for metric in dict.fromkeys(row["metric"] for row in one["bd_rate"]):
        rows = [row for row in one["bd_rate"] if row["metric"] == metric and row["curve"] in measured]
        if not rows:
            continue
        method = next((row["interpolation"] for row in rows if row["interpolation"]), "pchip")
        console.print(f"BD-rate for {metric} against {rows[0]['anchor']} ({method})", style="bold")
        table = _table(["curve", "BD-rate", "points", "overlap"])
        for row in rows:
            table.add_row(*map(escape, bd_cells(row)))
        console.print(table)
