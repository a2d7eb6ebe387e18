"""Evaluates a model on pictures with real bitstreams: python evaluate.py [--data kodak] [--weights FILE]."""

import sys

from tcm_jax.system import signals


def run() -> int:
    """The program; its exit status."""
    from tcm_jax.evaluation.command import main  # here, as it imports JAX, which may refuse its environment

    return main()


if __name__ == "__main__":
    signals.prepare()
    sys.exit(signals.outcome(run))
