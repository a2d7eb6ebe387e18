"""Evaluates a model on pictures with real bitstreams: python evaluate.py [--data kodak] [--weights FILE]."""

import sys

from tcm_jax.evaluation.command import main

if __name__ == "__main__":
    sys.exit(main())
