"""Evaluates a model on pictures with real bitstreams: python evaluate.py [--data kodak] [--weights FILE]."""

import sys

from tcm_jax.evaluation.command import main
from tcm_jax.system import signals

if __name__ == "__main__":
    signals.prepare()
    sys.exit(main())
