"""Evaluates a model on pictures with real bitstreams: python evaluate.py [--data kodak] [--weights FILE]."""

import sys

from tcm_jax.evaluation.command import main
from tcm_jax.system import entry_point

if __name__ == "__main__":
    entry_point.prepare()
    sys.exit(main())
