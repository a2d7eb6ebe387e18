"""`tcm page` and `tcm viewer`: one HTML file that decodes `.tcm` files in a browser (docs/viewer.md)."""

import argparse
import html
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcm_jax.cli import files, storage
from tcm_jax.codec.container import Container, parse
from tcm_jax.errors import ConfigError, StreamError, TcmError
from tcm_jax.images.formats import check_ending
from tcm_jax.system.files import descriptor
from tcm_jax.system.names import printable, say
from tcm_jax.weights.embedded import embedded_by_id

if TYPE_CHECKING:
    from tcm_jax.weights.weights import Weights

BUILT = Path(__file__).parent / "viewer"  # what `npm run build` in viewer/ of the checkout writes
_TITLE, _DATA = "<title>TITLE</title>", "<!--DATA-->"
_MOST_PIXELS = 1 << 26  # padded, of a picture; viewer/page/worker.js refuses more
_ESCAPE, _FLIP = 1, 0x8080  # viewer/page/blocks.js reads blocks


def page(args: argparse.Namespace) -> None:
    """Writes a page that shows one `.tcm` file."""
    plan = files.plan([args.input], args.output, args.overwrite, frozenset({".tcm"}), ".html")
    if plan.many:
        raise ConfigError("a page shows one picture; give one .tcm file")
    for job in plan.jobs:
        check_ending(job.target, ".html")
        files.check_place(job.target)
        data = files.read(job.source, StreamError)
        with files.named(job.source):
            file = parse(data, _MOST_PIXELS)
        if job.in_place and not args.overwrite:
            files.check_absent(job.target)
        model = _model(_weights_of(file, args.weights)) if file.has_latents else {}
        name = printable(Path(job.source).name) if job.source != files.STANDARD else "picture.tcm"
        _write(job.target, html_page(model, {name: data}, name))


def viewer(args: argparse.Namespace) -> None:
    """Writes a page that shows the `.tcm` files that people drop into it."""
    if storage.is_folder(storage.local(args.output)):
        raise ConfigError(f"{args.output} is a folder; give -o a file")
    check_ending(args.output, ".html")
    files.check_place(args.output)
    if not args.overwrite:
        files.check_absent(args.output)
    from tcm_jax.training.open_weights import open_weights

    _write(args.output, html_page(_model(open_weights(args.weights, args.tune)), {}, ".tcm pictures"))


def html_page(model: Mapping[str, bytes], pictures: Mapping[str, bytes], title: str) -> bytes:
    """The page, UTF-16: `model` is what `tcm-model` and `tcm-runtime` hold, or empty; `pictures` are files by name.

    Raises TcmError where the viewer was not built.
    """
    template = _built("page.html").decode().replace(_TITLE, f"<title>{html.escape(title)}</title>")
    before, after = (part.encode("utf-16-le") for part in template.split(_DATA))
    blocks = [_script(f'id="{html.escape(key)}"', data) for key, data in model.items()]
    blocks += [_script(f'data-name="{html.escape(name)}"', data) for name, data in pictures.items()]
    return b"".join([b"\xff\xfe", before, *blocks, after])


def _script(attribute: str, data: bytes) -> bytes:
    start = f'<script type="application/octet-stream" {attribute}>{len(data)}:'
    return start.encode("utf-16-le") + units(data).tobytes() + "</script>\n".encode("utf-16-le")


def units(data: bytes) -> np.ndarray:
    """Bytes as UTF-16 code units of two each, uint16; what no text of a page may have stands behind an escape."""
    plain = np.frombuffer(data + b"\0" * (len(data) % 2), "<u2")
    escaped = (plain & 0xF800) == 0xD800  # surrogates
    for forbidden in (0, _ESCAPE, ord("\r"), ord("<"), 0xFEFF, 0xFFFE, 0xFFFF):
        escaped |= plain == forbidden
    ends = np.cumsum(1 + escaped)
    written = np.full(ends[-1] if ends.size else 0, _ESCAPE, "<u2")
    written[ends - 1] = np.where(escaped, plain ^ _FLIP, plain)
    return written


def _weights_of(file: Container, path: str | None) -> "Weights":
    """The weights of a file: those of `path`, or embedded ones. Raises ModelMismatchError for others."""
    from tcm_jax.codec.decoder import check_identity
    from tcm_jax.training.open_weights import open_weights

    known = embedded_by_id(file.model_id)
    weights = open_weights(path or (str(known) if known else None))
    check_identity(file.model_id, weights)
    return weights


def _model(weights: "Weights") -> dict[str, bytes]:
    """The decoder of weights for a page: `tcm-runtime` and `tcm-model`."""
    runtime = _built("runtime.bin")
    from tcm_jax.codec.onnx.export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        export_onnx(folder, weights)
        return {"tcm-runtime": runtime, "tcm-model": packed_model(Path(folder))}


def packed_model(folder: Path) -> bytes:
    """The decoder's programs of an export: size of the index, its zlib stream, those of the programs."""
    description, programs, at = json.loads((folder / "model.json").read_bytes()), {}, 0
    streams = []
    for path in sorted(folder.glob("*.onnx")):
        if not path.stem.endswith("analysis"):  # an encoder's
            streams.append(zlib.compress(path.read_bytes(), 9))
            programs[path.stem] = (at, at + len(streams[-1]))
            at += len(streams[-1])
    index = zlib.compress(json.dumps({"description": description, "programs": programs}).encode(), 9)
    return b"".join([struct.pack("<I", len(index)), index, *streams])


def _built(name: str) -> bytes:
    try:
        return (BUILT / name).read_bytes()
    except FileNotFoundError as error:
        raise TcmError(
            "this installation has no built viewer; in viewer/ of a checkout run `npm ci`, then `npm run build`"
        ) from error


def _write(target: str, data: bytes) -> None:
    files.write(target, data, makes_folders=False)
    out = sys.stderr if target == files.STANDARD or descriptor(target) == 1 else sys.stdout
    say(f"{target}: {len(data):,} bytes", out)
