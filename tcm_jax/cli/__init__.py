"""The command `tcm`: pictures to `.tcm` files and back, what is in them, weights, evaluation."""

import contextlib
import os
import sys
import warnings

from tcm_jax.cli.parser import make_parser
from tcm_jax.errors import TcmError

FAILED, USAGE, INTERRUPTED, READER_LEFT = 1, 2, 130, 141  # argparse exits with USAGE by itself


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit status, errors are one line each on stderr."""
    argv = sys.argv[1:] if argv is None else argv
    args = make_parser(argv).parse_args(argv)
    try:
        status = args.run(args)
        sys.stdout.flush()
    except TcmError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT
    return status if isinstance(status, int) else 0


def entry() -> None:
    """The program: `main`, but it ends at once.

    After Ctrl-C it does not wait for the pictures that other threads are at; and taking JAX apart, which the system
    does anyway, would take it a third of a second.
    """
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"  # a line, as for errors
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    from tcm_jax.system.files import writing

    with writing:  # whoever writes a file now finishes it, or takes it away again
        os._exit(status)
