"""The report: one HTML file with everything in it, for a browser without a network. `page.*` is its fixed part."""

import json
import math
from pathlib import Path
from typing import Any

from tcm_jax.evaluation import bdrate
from tcm_jax.evaluation.results import finite
from tcm_jax.system.files import atomic_write
from tcm_jax.system.names import printable

_PAGE = Path(__file__).parent
_SCRIPTS = ("page.js", "viewer.js", "charts.js", "tables.js")
_MEANS = ("failed", "bpp", "bytes", "psnr", "psnr_of_mean_mse", "ms_ssim", "ms_ssim_db_of_mean", "ssimulacra2",
          "encode_seconds", "decode_seconds")  # fmt: skip
_EQUAL = {"psnr": "psnr", "ms_ssim": "ms_ssim_db_of_mean", "ssimulacra2": "ssimulacra2"}  # means that savings equal


def write_report(
    path: Path, result: dict[str, Any], gallery: dict[str, list[dict[str, Any]]], complexity: list[dict[str, Any]]
) -> None:
    """Writes the report of a result (`results.build`), galleries by data sets' specs, and rows of the complexity table.

    Raises TcmError if the file cannot be written.
    """
    sets = [_set(one, gallery.get(one["spec"], [])) for one in result["sets"]]
    data = {"provenance": result["provenance"], "sets": sets, "complexity": complexity}
    # In a script element only "</" and "<!--" mean anything to the HTML parser.
    text = json.dumps(_readable(finite(data)), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    page = (_PAGE / "page.html").read_text(encoding="utf-8")
    scripts = "".join((_PAGE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    for name, content in (("css", (_PAGE / "page.css").read_text(encoding="utf-8")), ("js", scripts), ("data", text)):
        page = page.replace(f"/*{name}*/", content, 1)
    atomic_write(path, page.encode())


def _readable(value: Any) -> Any:
    """The value with every text as a browser can show it."""
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _set(one: dict[str, Any], pictures: list[dict[str, Any]]) -> dict[str, Any]:
    curves = []
    for curve in one["curves"]:
        points = [{"label": point["label"], **{key: point["mean"][key] for key in _MEANS}, "images": point["images"]}
                  for point in curve["points"]]  # fmt: skip
        curves.append({key: curve[key] for key in ("name", "label", "kind", "settings")} | {"points": points})
    keys = ("name", "label", "source", "bpp", "psnr", "ms_ssim_db")
    shown = [{key: curve[key] for key in keys} for curve in one["published"]]
    return {"name": one["name"], "pictures": one["pictures"], "curves": curves, "published": shown,
            "bd_rate": one["bd_rate"], "savings": savings(one), "gallery": pictures}  # fmt: skip


def savings(one: dict[str, Any]) -> list[dict[str, Any]]:
    """For every point of a model and every other measured codec: the bits that the codec takes for equal quality.

    {"point", "codec", "psnr", "ms_ssim", "ssimulacra2"}: the codec's bits per pixel over the model's, less 1, in
    percent; None where the codec's ladder does not reach that quality.
    """
    table = []
    for model in (curve for curve in one["curves"] if curve["kind"] == "tcm"):
        for point in model["points"]:
            for other in (curve for curve in one["curves"] if curve["kind"] != "tcm"):
                row = {"point": f"{model['label']}, {point['label']}", "codec": other["label"]}
                for metric, key in _EQUAL.items():
                    row[metric] = _extra(point["mean"], [p["mean"] for p in other["points"]], key)
                table.append(row)
    return table


def _extra(mean: dict[str, Any], others: list[dict[str, Any]], key: str) -> float | None:
    pairs = [(m["bpp"], m[key]) for m in others if m[key] is not None and math.isfinite(m[key]) and not m["failed"]]
    if not pairs or mean[key] is None:
        return None
    rates, qualities = zip(*pairs, strict=True)
    rate = bdrate.rate_at((rates, qualities), mean[key])
    return None if rate is None else 100 * (rate / mean["bpp"] - 1)
