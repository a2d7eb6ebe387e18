"""`tcm compress` and `tcm decompress`."""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tcm_jax.cli import batch, files
from tcm_jax.cli.files import STANDARD, Job
from tcm_jax.cli.stages import Stages
from tcm_jax.cli.startup import quick_imports
from tcm_jax.errors import ConfigError, ImageError, StreamError, TcmError
from tcm_jax.image import SUFFIXES, Picture, decode_picture, encode_png


def compress(args: argparse.Namespace) -> int:
    """Pictures to `.tcm` files; the exit status."""
    plan = files.plan(args.inputs, args.output, args.overwrite, SUFFIXES, ".tcm")
    Image.MAX_IMAGE_PIXELS = None  # Pillow's limit; ours is --max-pixels
    stages = Stages()
    codecs = _codecs(args, stages, portable=not args.no_portable)
    if not codecs[0].weights.config.levels and (args.quality or args.target_bpp or args.target_psnr):
        raise ConfigError(
            f"the weights {codecs[0].weights.name} have one rate; leave out --quality, --target-bpp and --target-psnr"
        )
    status = batch.run(plan, codecs, functools.partial(_compress, args, stages), _compressed, args.json)
    if args.verbose:
        stages.show()
    return status


def decompress(args: argparse.Namespace) -> int:
    """`.tcm` files to PNG; the exit status."""
    plan = files.plan(args.inputs, args.output, args.overwrite, frozenset({".tcm"}), ".png")
    for job in plan.jobs:
        if Path(job.target).suffix.lower() in SUFFIXES - {".png"}:
            raise ConfigError(f"pictures are written as PNG; give {Path(job.target).name} the ending .png")
    stages = Stages()
    codecs = _codecs(args, stages)
    status = batch.run(plan, codecs, functools.partial(_decompress, args, stages), _decompressed, args.json)
    if args.verbose:
        stages.show()
    return status


def _codecs(args: argparse.Namespace, stages: Stages, portable: bool = True) -> list[Any]:
    """A codec for every file that may be worked on at a time."""
    if args.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, not {args.jobs}")
    with stages.time("imports"), quick_imports():
        import jax

        from tcm_jax.any_weights import open_weights
        from tcm_jax.codec import GUARD_BAND, Codec
        from tcm_jax.entropy import range_coder
        from tcm_jax.programs import keep_compiled_programs

        range_coder.load(args.coder)
    stages.watch_programs()
    keep_compiled_programs()
    with stages.time("weights"):
        weights = open_weights(args.weights)
        guard_band = GUARD_BAND if portable else 0.0
        codecs = [Codec(weights, args.coder, guard_band, args.tile, device) for device in jax.local_devices()]
    return codecs * args.jobs


def _compress(args: argparse.Namespace, stages: Stages, codec: Any, job: Job) -> dict[str, Any]:
    with stages.time("reading"):
        picture = decode_picture(files.read(job.source, ImageError), _name(job.source), args.max_pixels)
    if args.strip:
        picture = dataclasses.replace(picture, icc=b"", exif=b"")
    with stages.time("coding"):
        data = _code(args, codec, picture)
    with stages.time("writing"):
        files.write(job.target, data, many=args.output != job.target)
    return _record(data, picture)


def _code(args: argparse.Namespace, codec: Any, picture: Picture) -> bytes:
    from tcm_jax import search

    quality = args.quality
    if args.target_bpp:
        data, quality = search.compress_to_bpp(codec, picture, args.target_bpp, args.max_pixels)
    elif args.target_psnr:
        data, quality = search.compress_to_psnr(codec, picture, args.target_psnr, args.max_pixels)
    elif not args.verify:
        data = codec.compress(picture, quality, args.max_pixels)
    if args.verify:
        encoded = codec.encode(picture, quality, args.max_pixels)
        data, decoded = encoded.data, codec.decode(encoded.data, args.max_pixels)
        same_metadata = (decoded.icc, decoded.exif) == (picture.icc, picture.exif)
        if not (np.array_equal(decoded.array, encoded.reconstruction) and same_metadata):
            raise TcmError("the file does not decode to what was encoded, and is not kept; please report this")
    return data


def _decompress(args: argparse.Namespace, stages: Stages, codec: Any, job: Job) -> dict[str, Any]:
    with stages.time("reading"):
        data = files.read(job.source, StreamError)
    with stages.time("coding"):
        picture = codec.decode(data, args.max_pixels)
    if args.strip:
        picture = dataclasses.replace(picture, icc=b"", exif=b"")
    with stages.time("writing"):
        files.write(job.target, encode_png(picture), many=args.output != job.target)
    return _record(data, picture)


def _name(source: str) -> str:
    return "the picture on standard input" if source == STANDARD else source


def _record(data: bytes, picture: Picture) -> dict[str, Any]:
    from tcm_jax.container import parse

    height, width = picture.colour.shape[:2]
    file = parse(data, max_pixels=2**62)
    quality = None if file.quality is None else file.quality / 100
    bpp = round(8 * len(data) / (height * width), 6)
    return {"width": width, "height": height, "bytes": len(data), "bpp": bpp, "quality": quality}


def _compressed(record: dict[str, Any]) -> str:
    quality = "" if record["quality"] is None else f", quality {record['quality']:g}"
    return f"{record['output']}: {_size(record)}{quality}, {record['seconds']:.1f} s"


def _decompressed(record: dict[str, Any]) -> str:
    size = f"{record['width']}x{record['height']}"
    return f"{record['output']}: {size} from {_size(record)}, {record['seconds']:.1f} s"


def _size(record: dict[str, Any]) -> str:
    return f"{record['bytes']:,} bytes, {record['bpp']:.4f} bpp"
