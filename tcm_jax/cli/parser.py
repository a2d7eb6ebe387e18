"""The command line's grammar. Importing it loads little but argparse, so that help comes at once."""

import argparse

from tcm_jax.images.limits import MAX_PIXELS
from tcm_jax.system.arguments import Parser
from tcm_jax.system.names import file_name, file_path

DESCRIPTION = "Pictures to .tcm files and back, with a learned codec."
EXAMPLES = """examples:
  tcm compress photo.jpg                         writes photo.tcm
  tcm decompress photo.tcm -o copy.png           writes copy.png
  tcm compress photos -o small                   a folder, with its folders, to small/
  tcm compress 'photos/*.jpg' --verify --json    what was written, one JSON object a line
  tcm compress s3://from/photos -o s3://to/small --engine ray --manifest failed.jsonl
  tcm compress photo.jpg --quality 30            of variable-rate weights, 1 to 100
  tcm compress photo.jpg --target-bpp 0.3        the best quality that fits
  tcm compress photo.jpg --effort 5              fewer bits for as much, by trying harder
  tcm compress drawing.png --lossless            every sample comes back as it is
  cat photo.jpg | tcm compress - | ssh there 'tcm decompress - -o photo.png'
  tcm info photo.tcm --json
  tcm page photo.tcm -o photo.html               a page that shows the picture, offline
  tcm viewer -o viewer.html                      a page that shows files dropped into it
  tcm convert 0.0067.pth.tar small.safetensors
  tcm export-onnx model && tcm decompress photo.tcm --runtime onnx --weights model
  tcm evaluate --data kodak --output results
  tcm analyze bits photo.jpg -o bits.png
  tcm warm-up                                    compile what a first picture would wait for
  tcm completion bash > ~/.local/share/bash-completion/completions/tcm

A file with latents decompresses only with the weights that compressed it.

exit status: 0, all is done; 1, something failed, and stderr says what (of many files the others are done);
2, wrong usage; 129, 130 and 143, SIGHUP, Ctrl-C and SIGTERM, no partial file is left; 141, the reader of the output
has left.
"""
TRUSTED = "the range coder; tfc is for cross-checks and trusted files: on an altered file it can run for ever"
SHELLS = ("bash", "zsh")


def make_parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser of `argv`; commands whose flags come with heavy imports have them only when they are called.

    Each command sets `run`, "module:function", which `main` imports and calls with the parsed arguments.
    """
    parser = Parser(
        prog="tcm", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_compress(commands.add_parser("compress", help="pictures to .tcm files"))
    _add_decompress(commands.add_parser("decompress", help=".tcm files to PNG"))
    _add_info(commands.add_parser("info", help="what a .tcm file holds"))
    _add_page(commands.add_parser("page", help="a web page that shows a .tcm file"))
    _add_viewer(commands.add_parser("viewer", help="a web page that shows the .tcm files dropped into it"))
    _add_convert(commands.add_parser("convert", help="a PyTorch checkpoint of the authors' code to a weight file"))
    _add_export_onnx(commands.add_parser("export-onnx", help="weights to ONNX programs, for onnxruntime anywhere"))
    evaluate = commands.add_parser("evaluate", help="bits, quality and seconds of a model on a set of pictures")
    if argv[:1] in (["evaluate"], ["completion"]):
        from tcm_jax.evaluation import command as evaluation

        evaluation.add_arguments(evaluate)
    evaluate.set_defaults(run="tcm_jax.evaluation.command:run")
    analyze = commands.add_parser("analyze", help="receptive fields, bits, latents and work of a network")
    if argv[:1] in (["analyze"], ["completion"]):
        from tcm_jax.evaluation.analysis import command as analysis

        analysis.add_arguments(analyze)
    analyze.set_defaults(run="tcm_jax.evaluation.analysis.command:run")
    warm_up = commands.add_parser("warm-up", help="make what the first picture would wait for, for all sizes")
    warm_up.set_defaults(run="tcm_jax.cli.ahead:warm_up")
    completion = commands.add_parser("completion", help="a script that teaches a shell to complete tcm")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run="tcm_jax.cli.parser:complete")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_) -> None:
        from importlib.metadata import version  # takes longer than the rest of this file

        print(f"tcm_jax {version('tcm_jax')}", flush=True)
        parser.exit()


def _add_compress(parser: argparse.ArgumentParser) -> None:
    _add_files(parser, "picture, folder or pattern, or - for stdin", "a .tcm file, a folder, or - for stdout; default: "
               "beside the picture, with .tcm")  # fmt: skip
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=float, metavar="Q", help="1 to 100, of variable-rate weights; default: 55")
    rate.add_argument("--target-bpp", type=_positive, metavar="BPP", help="the highest quality that needs no more bits "
                      "a pixel; variable-rate weights")  # fmt: skip
    rate.add_argument("--target-psnr", type=_positive, metavar="DB", help="the lowest quality that reaches this PSNR; "
                      "variable-rate weights")  # fmt: skip
    rate.add_argument("--lossless", dest="max_error", action="store_const", const=0, help="every sample comes back as "
                      "it is; any weights")  # fmt: skip
    rate.add_argument("--max-error", type=int, metavar="N", help="no sample is off by more than N levels, 0 to 127; "
                      "any weights")  # fmt: skip
    parser.add_argument("--effort", type=int, default=0, choices=range(10), metavar="N", help="0 to 9: how long to "
                        "search for latents that code the picture better; each doubles the time")  # fmt: skip
    parser.add_argument("--tune", choices=("visual", "psnr", "ms-ssim", "ssimulacra2"), help="what the picture is "
                        "coded for: the embedded model of psnr or, for the others, the one for the eye; what an effort "
                        "searches for; default: visual, or what --weights were trained for")  # fmt: skip
    parser.add_argument("--allow-truncated", action="store_true", help="of a picture whose file ends early, compress "
                        "what is there; the rest is grey or black")  # fmt: skip
    parser.add_argument("--verify", action="store_true", help="decode and compare before the file is put in its place")
    parser.add_argument("--no-portable", dest="portable", action="store_false", help="leave out what other machines "
                        "need to decode: for this machine and software only")  # fmt: skip
    parser.add_argument("--coder", choices=("auto", "tfc", "native"), default="auto",
                        help="the range coder; all write the same")  # fmt: skip
    _add_work(parser)
    parser.set_defaults(run="tcm_jax.cli.commands:compress", runtime="jax")


def _add_decompress(parser: argparse.ArgumentParser) -> None:
    _add_files(parser, ".tcm file, folder or pattern, or - for stdin", "a .png file, a folder, or - for stdout; "
               "default: beside the file, with .png")  # fmt: skip
    parser.add_argument("--coder", choices=("auto", "tfc", "native"), default="auto", help=TRUSTED)
    parser.add_argument("--runtime", choices=("jax", "onnx"), default="jax", help="what the network runs on; onnx "
                        "needs no JAX, and the folder that tcm export-onnx wrote as --weights")  # fmt: skip
    _add_work(parser)
    parser.set_defaults(run="tcm_jax.cli.commands:decompress", portable=True, tune=None)


def _add_files(parser: argparse.ArgumentParser, source: str, target: str) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help=source)
    parser.add_argument("-o", "--output", type=file_name, metavar="OUT", help=target)
    _add_weights(parser)
    _add_overwrite(parser)


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=file_name, metavar="IN", help=".tcm file, or - for stdin")
    parser.add_argument("-o", "--output", type=file_name, metavar="OUT", help="an .html file, or - for stdout; "
                        "default: beside the file, with .html")  # fmt: skip
    _add_weights(parser, "the embedded model that wrote the file")
    _add_overwrite(parser)
    parser.set_defaults(run="tcm_jax.cli.page:page")


def _add_viewer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=file_name, metavar="OUT", default="viewer.html", help="an .html file, "
                        "or - for stdout; default: viewer.html")  # fmt: skip
    _add_weights(parser)
    _add_model(parser)
    _add_overwrite(parser)
    parser.set_defaults(run="tcm_jax.cli.page:viewer")


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strip", action="store_true", help="leave out ICC profile and EXIF")
    parser.add_argument("--tile", type=_side, metavar="N", help="work on larger pictures by tiles of N pixels a side, "
                        "a multiple of 128 from 512; 0: in one piece; default: auto, which costs least in bounded "
                        "memory")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="files at a time on each device or worker; "
                        "default: 2")  # fmt: skip
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: on the cluster that "
                        "RAY_ADDRESS names, or one made of this machine; docs/usage.md")  # fmt: skip
    parser.add_argument("--manifest", type=file_name, metavar="FILE", help="where to list the files that failed: "
                        "one JSON object a line, input and error")  # fmt: skip
    _add_max_pixels(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a file on stdout")
    parser.add_argument("--verbose", action="store_true", help="seconds of each stage, on stderr")


def _side(text: str) -> int | None:
    """The side in pixels that `text` names, or None for `auto`."""
    try:
        return None if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pixels such as 512, nor auto") from None


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="FILE", help=".tcm file, folder or pattern, or - for stdin")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    _add_max_pixels(parser)
    parser.set_defaults(run="tcm_jax.cli.info:info")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=file_path, metavar="IN.pth.tar")
    parser.add_argument("output", type=file_path, metavar="OUT.safetensors")
    parser.add_argument("--lambda", dest="lam", type=_positive, metavar="L", help="what the weights were trained with: "
                        "efforts need it")  # fmt: skip
    parser.add_argument("--distortion", choices=("mse", "ms_ssim"), help="what that lambda weighs; "
                        "default: mse")  # fmt: skip
    _add_overwrite(parser)
    parser.set_defaults(run="tcm_jax.cli.commands:convert")


def _add_export_onnx(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=file_path, metavar="FOLDER", help="where to write the programs and model.json")
    _add_weights(parser)
    _add_model(parser)
    _add_overwrite(parser)
    parser.set_defaults(run="tcm_jax.cli.commands:export_onnx")


def _add_weights(parser: argparse.ArgumentParser, default: str = "the embedded model") -> None:
    parser.add_argument("--weights", type=file_name, metavar="FILE", help="a .safetensors file, a folder of "
                        f"checkpoints or a reference .pth.tar; default: {default}")  # fmt: skip


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tune", choices=("visual", "psnr"), help="which embedded model; default: visual")


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")


def _add_max_pixels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-pixels", type=_count, default=MAX_PIXELS, metavar="N",
                        help=f"refuse larger pictures; default: {MAX_PIXELS:,}")  # fmt: skip


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
    return number


def complete(args: argparse.Namespace) -> None:
    """Prints a script that teaches a shell to complete the command line."""
    import shtab

    print(shtab.complete(make_parser(["completion"]), args.shell))
