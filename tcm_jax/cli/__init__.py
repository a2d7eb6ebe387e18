"""The command `tcm`: pictures to `.tcm` files and back, what is in them, weights, evaluation."""

import pkgutil
import sys
import warnings

from tcm_jax.cli.parser import make_parser
from tcm_jax.system import signals


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit status, errors are one line each on stderr."""
    argv = sys.argv[1:] if argv is None else argv

    def run():
        args = make_parser(argv).parse_args(argv)
        return pkgutil.resolve_name(args.run)(args)

    return signals.outcome(run)


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as errors are printed; Numba puts a traceback into one."""
    first = next((line for line in str(message).splitlines() if line.strip()), "")
    return f"{category.__name__}: {first}\n"


def entry() -> None:
    """The program: `main`, but it ends at once.

    After Ctrl-C or SIGTERM it does not wait for the pictures that other threads are at; and taking JAX apart, which the
    system does anyway, would take it a third of a second.
    """
    signals.prepare()
    warnings.formatwarning = _one_line
    try:
        status = main()
    except SystemExit as stop:  # a signal, or argparse
        status = stop.code if isinstance(stop.code, int) else 1
    signals.end(status)
