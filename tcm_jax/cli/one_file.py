"""What `tcm compress` and `tcm decompress` do with one file: bytes in to bytes out, on this machine or a cluster's."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tcm_jax.cli import files
from tcm_jax.cli.ahead import help_once
from tcm_jax.cli.effort_bar import effort_bar
from tcm_jax.cli.files import STANDARD, Job
from tcm_jax.cli.stages import Stages
from tcm_jax.cli.startup import quick_imports
from tcm_jax.errors import ConfigError, ImageError, StreamError, TcmError
from tcm_jax.images.picture import Picture
from tcm_jax.images.pictures import decode_picture, encode_png, for_png

if TYPE_CHECKING:
    from tcm_jax.codec.codec import Codec
    from tcm_jax.codec.decoder import Decoder
    from tcm_jax.codec.effort import Effort
    from tcm_jax.weights.weights import Weights


@dataclasses.dataclass(frozen=True)
class Command:
    """What differs between `tcm compress` and `tcm decompress`.

    Its functions are those of a module, so that they can be sent to other processes.
    """

    code: Callable[[argparse.Namespace, Any, bytes, str], tuple[bytes, dict[str, Any]]]  # with a Codec or Decoder
    unreadable: type[TcmError]
    line: Callable[[dict[str, Any]], str]


def open_codecs(args: argparse.Namespace, stages: Stages, weights: "Weights | None" = None) -> list["Decoder"]:
    """As many codecs as files may be worked on at a time, all of `weights`, or of the weights that --weights names."""
    if args.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, not {args.jobs}")
    if args.runtime == "onnx":
        return [_onnx_decoder(args, stages)] * args.jobs
    help_once(args.weights)
    with stages.time("imports"), quick_imports():
        from tcm_jax.codec.codec import Codec
        from tcm_jax.codec.guard_band import GUARD_BAND
        from tcm_jax.entropy import coders
        from tcm_jax.system.devices import codec_devices
        from tcm_jax.system.process import tune_process
        from tcm_jax.training.open_weights import open_weights

        coders.load(args.coder)
    stages.watch_programs()
    tune_process()
    with stages.time("weights"):
        weights = weights or open_weights(args.weights, args.tune)
        guard_band = GUARD_BAND if args.portable else 0.0
        codecs = [Codec(weights, args.coder, guard_band, args.tile, device) for device in codec_devices()]
    return codecs * args.jobs


def _onnx_decoder(args: argparse.Namespace, stages: Stages) -> "Decoder":
    if args.weights is None:
        raise ConfigError("--runtime onnx needs --weights FOLDER, which tcm export-onnx wrote")
    with stages.time("imports"), quick_imports():
        from tcm_jax.codec.onnx.decoder import OnnxDecoder
        from tcm_jax.entropy import coders

        coders.load(args.coder)
    with stages.time("weights"):
        return OnnxDecoder(args.weights, args.coder, args.tile)


def process_file(
    args: argparse.Namespace, command: Command, stages: Stages, codec: "Decoder", job: Job
) -> dict[str, Any]:
    """Reads, codes and writes one file; returns what is known about the output. Raises TcmError."""
    files.check_place(job.target, args.makes_folders)
    with stages.time("reading"):
        data = files.read(job.source, command.unreadable)
    with stages.time("coding"):
        coded, record = command.code(args, codec, data, job.source)
    if job.in_place and not args.overwrite:
        files.check_absent(job.target)
    with stages.time("writing"):
        files.write(job.target, coded, args.makes_folders)
    return record


def _compress(args: argparse.Namespace, codec: "Codec", data: bytes, source: str) -> tuple[bytes, dict[str, Any]]:
    Image.MAX_IMAGE_PIXELS = args.max_pixels  # Pillow alone sees the pictures inside of icons; it stops at twice that
    name = "the picture on standard input" if source == STANDARD else source
    picture = decode_picture(data, name, args.max_pixels, args.allow_truncated)
    if args.strip:
        picture = dataclasses.replace(picture, icc=b"", exif=b"")
    with files.named(source):
        coded = _code(args, codec, picture)
    return coded, _record(coded, picture, picture.warning(name, "compressed"))


def _code(args: argparse.Namespace, codec: "Codec", picture: Picture) -> bytes:
    from tcm_jax.codec.effort import Effort

    with effort_bar(args.effort > 0 and args.steps_shown) as on_step:
        return _coded(args, codec, picture, Effort(args.effort, args.tune, on_step))


def _coded(args: argparse.Namespace, codec: "Codec", picture: Picture, effort: "Effort") -> bytes:
    from tcm_jax.codec import search

    quality = args.quality
    if args.target_bpp:
        data, quality = search.compress_to_bpp(codec, picture, args.target_bpp, args.max_pixels, effort)
    elif args.target_psnr:
        data, quality = search.compress_to_psnr(codec, picture, args.target_psnr, args.max_pixels, effort)
    elif not args.verify:
        data = codec.compress(picture, quality, args.max_pixels, args.max_error, effort)
    if args.verify:
        encoded = codec.encode(picture, quality, args.max_pixels, args.max_error, effort)
        data, decoded = encoded.data, codec.decode(encoded.data, args.max_pixels)
        same_metadata = (decoded.icc, decoded.exif) == (picture.icc, picture.exif)
        if not (np.array_equal(decoded.array, encoded.reconstruction) and same_metadata):
            raise TcmError("the file does not decode to what was encoded, and is not kept; please report this")
    return data


def _decompress(args: argparse.Namespace, codec: "Decoder", data: bytes, source: str) -> tuple[bytes, dict[str, Any]]:
    with files.named(source):
        picture = codec.decode(data, args.max_pixels)
    if args.strip:
        picture = dataclasses.replace(picture, icc=b"", exif=b"")
    picture = for_png(picture)
    warning = picture.warning(f"the picture of {files.shown(source)}", "written")
    return encode_png(picture), _record(data, picture, warning)


def _record(data: bytes, picture: Picture, warning: str | None) -> dict[str, Any]:
    from tcm_jax.codec.container import parse
    from tcm_jax.codec.residual.layer import step_of

    height, width = picture.colour.shape[:2]
    file = parse(data, max_pixels=2**62)
    quality = None if file.quality is None else file.quality / 100
    bpp = round(8 * len(data) / (height * width), 6)
    error = step_of(file.layer) // 2 if file.layer else None
    record = {"width": width, "height": height, "bytes": len(data), "bpp": bpp, "quality": quality, "max_error": error}
    return record | ({"warning": warning} if warning else {})


def _compressed(record: dict[str, Any]) -> str:
    quality = "" if record["quality"] is None else f", quality {record['quality']:g}"
    if record["max_error"] is not None:
        quality = f", off by at most {record['max_error']}" if record["max_error"] else ", exact"
    return f"{record['output']}: {_size(record)}{quality}, {record['seconds']:.1f} s"


def _decompressed(record: dict[str, Any]) -> str:
    size = f"{record['width']}x{record['height']}"
    return f"{record['output']}: {size} from {_size(record)}, {record['seconds']:.1f} s"


def _size(record: dict[str, Any]) -> str:
    return f"{record['bytes']:,} bytes, {record['bpp']:.4f} bpp"


COMPRESS = Command(_compress, ImageError, _compressed)
DECOMPRESS = Command(_decompress, StreamError, _decompressed)
