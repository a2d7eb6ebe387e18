"""`tcm info`: what a `.tcm` file says about itself; nothing is decoded."""

import argparse
import dataclasses
import json
import sys
from typing import Any

from tcm_jax.cli import batch, files
from tcm_jax.codec.container import Container, pack, parse, section_sizes
from tcm_jax.codec.residual.layer import step_of
from tcm_jax.errors import StreamError, TcmError
from tcm_jax.system.names import say


def info(args: argparse.Namespace) -> int:
    """Prints what each file holds; returns the exit status."""
    expanded = files.expand(args.inputs, frozenset({".tcm"}))
    found = [source for source, _ in expanded.files]
    batch.show_special(expanded.special)
    for folder, reason in expanded.unreadable:
        say(f"TcmError: cannot read {folder}: {reason}", sys.stderr)
    status = 1 if expanded.unreadable else 0
    for source in found:
        try:
            described = _described(source, args.max_pixels)
        except TcmError as error:
            say(f"{type(error).__name__}: {error}", sys.stderr)
            status = 1
            continue
        for line in [json.dumps(described)] if args.json else _text(described):
            say(line, sys.stdout)
    return status


def _described(source: str, max_pixels: int) -> dict[str, Any]:
    """Of a file, or of standard input; its name is in every error."""
    data = files.read(source, StreamError)
    with files.named(source):
        return {"file": source, **describe(data, max_pixels)}


def describe(data: bytes, max_pixels: int) -> dict[str, Any]:
    """What `tcm info --json` prints of a file. Raises StreamError."""
    file = parse(data, max_pixels)
    bare = dataclasses.replace(file, sides=None, corrections=())
    return {
        "width": file.width,
        "height": file.height,
        "bytes": len(data),
        "bpp": round(8 * len(data) / (file.width * file.height), 6),
        "model": file.model_id.hex(),
        "model_name": _known(file),
        "quality": None if file.quality is None else file.quality / 100,
        "grey": file.grey,
        "alpha": bool(file.alpha),
        "tile": file.tile,
        "max_error": step_of(file.layer) // 2 if file.layer else None,
        "latents": file.has_latents,
        "portable": file.guard_band > 0 or not file.has_latents,
        "guard_band": file.guard_band,
        "portable_bytes": len(data) - len(pack(bare)),
        "parts": section_sizes(data),
    }


def _known(file: Container) -> str | None:
    """The name of the embedded model that wrote the file, if one did."""
    from tcm_jax.weights.embedded import embedded_by_id, metadata

    path = embedded_by_id(file.model_id)
    return metadata(path).get("name") if path else None


def _text(d: dict[str, Any]) -> list[str]:
    channels = ("grey" if d["grey"] else "RGB") + (" and alpha" if d["alpha"] else "")
    quality = "one rate" if d["quality"] is None else f"quality {d['quality']:g}"
    if d["max_error"] is not None:
        quality = f"off by at most {d['max_error']}" if d["max_error"] else "exact"
    portable = (
        "yes: no network"
        if not d["latents"]
        else f"yes, for {d['portable_bytes']} bytes: guard band {d['guard_band']:.0e}"
        if d["portable"]
        else "no: decodes only on the machine and software that wrote it"
    )
    parts = ", ".join(f"{name} {size:,}" for name, size in d["parts"].items() if size)
    model = d["model"] + (f" ({d['model_name']})" if d["model_name"] else "")
    model = model if d["latents"] else "none: any decodes it"
    tiles = f"{d['tile']} pixels a side" if d["tile"] else "one piece"
    return [
        f"{d['file']}: {d['width']}x{d['height']} {channels}, {d['bytes']:,} bytes, {d['bpp']:.4f} bpp",
        f"  model     {model}",
        f"  rate      {quality}",
        f"  tiles     {tiles}",
        f"  portable  {portable}",
        f"  bytes     {parts}",
    ]
