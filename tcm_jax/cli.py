"""The command `tcm`: pictures to `.tcm` files and back, the reference's weights to ours, evaluation."""

import argparse
import os
import sys
import time
from pathlib import Path

from tcm_jax.entropy.range_coder import ENGINES
from tcm_jax.errors import ConfigError, StreamError, TcmError

EXAMPLES = """examples:
  tcm compress photo.jpg                      writes photo.tcm
  tcm decompress photo.tcm -o copy.png        writes copy.png
  tcm convert 0.0067.pth.tar small.safetensors
  tcm compress photo.jpg --weights small.safetensors
  tcm evaluate --data kodak --output results

A file decompresses only with the weights that compressed it.
"""
TRUSTED = "range coder engine; tfc is for cross-checks and trusted files: on an altered file it can run for ever"


def main(argv: list[str] | None = None) -> int:
    """Runs one command; its exit status is 1 for a user's error, which is one line on stderr, and 130 for Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser(argv).parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except TcmError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tcm", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    compress = commands.add_parser("compress", help="a picture to a .tcm file")
    _add_files(compress, "picture in any format that Pillow reads", "default: the picture's name with .tcm")
    compress.add_argument("--coder", choices=ENGINES, default="auto", help="range coder engine; all write the same")
    compress.set_defaults(run=_compress)

    decompress = commands.add_parser("decompress", help="a .tcm file to a PNG")
    _add_files(decompress, ".tcm file", "default: the file's name with .png")
    decompress.add_argument("--coder", choices=ENGINES, default="auto", help=TRUSTED)
    decompress.set_defaults(run=_decompress)

    convert = commands.add_parser("convert", help="a PyTorch checkpoint of the authors' code to a weight file")
    convert.add_argument("input", type=Path, metavar="IN.pth.tar")
    convert.add_argument("output", type=Path, metavar="OUT.safetensors")
    _add_overwrite(convert)
    convert.set_defaults(run=_convert)

    evaluate = commands.add_parser("evaluate", help="bits, quality and seconds of a model on a set of pictures")
    if argv[:1] == ["evaluate"]:  # its flags come with JAX, for which no other help should wait
        from tcm_jax import evaluation

        evaluation.add_arguments(evaluate)
        evaluate.set_defaults(run=evaluation.run)
    return parser


def _add_files(parser: argparse.ArgumentParser, source: str, target: str) -> None:
    parser.add_argument("input", type=Path, metavar="IN", help=source)
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help=target)
    parser.add_argument("--weights", metavar="FILE", help="a .safetensors file, a folder of checkpoints or a "
                        "reference .pth.tar; default: the embedded model")  # fmt: skip
    _add_overwrite(parser)


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def _compress(args: argparse.Namespace) -> None:
    from tcm_jax.image import atomic_write, read_image

    image = read_image(args.input)
    output = _free(args.output or args.input.with_suffix(".tcm"), args.overwrite)
    codec = _codec(args)
    start = time.perf_counter()
    data = codec.compress(image)
    seconds = time.perf_counter() - start
    atomic_write(output, data)
    print(f"{output}: {_size(data, image)}, {seconds:.1f} s")


def _decompress(args: argparse.Namespace) -> None:
    from tcm_jax.image import SUFFIXES, write_png

    try:
        data = args.input.read_bytes()
    except OSError as error:
        raise StreamError(f"cannot read {args.input}: {error.strerror or error}") from error
    output = _free(args.output or args.input.with_suffix(".png"), args.overwrite)
    if output.suffix.lower() in SUFFIXES - {".png"}:
        raise ConfigError(f"pictures are written as PNG; give {output.name} the ending .png")
    codec = _codec(args)
    start = time.perf_counter()
    image = codec.decompress(data)
    seconds = time.perf_counter() - start
    write_png(output, image)
    print(f"{output}: {image.shape[1]}x{image.shape[0]} from {_size(data, image)}, {seconds:.1f} s")


def _convert(args: argparse.Namespace) -> None:
    output = _free(args.output, args.overwrite)
    from tcm_jax import checkpoint, convert

    weights = checkpoint.make_weights(*convert.convert(args.input), {"name": args.input.name})
    checkpoint.save_weights(output, weights)
    print(f"{output}: {output.stat().st_size:,} bytes, model {weights.identity[:16]}")


def _free(output: Path, overwrite: bool) -> Path:
    """`output`, if it may be written; asked before the work, not after it."""
    if output.is_file() and not overwrite:
        raise TcmError(f"{output} exists; give another name, or --overwrite to replace it")
    return output


def _codec(args: argparse.Namespace):
    from tcm_jax.codec import Codec, keep_compiled_programs
    from tcm_jax.evaluation import open_weights

    keep_compiled_programs()
    return Codec(open_weights(args.weights), coder=args.coder)


def _size(data: bytes, image) -> str:
    return f"{len(data):,} bytes, {8 * len(data) / (image.shape[0] * image.shape[1]):.4f} bpp"
