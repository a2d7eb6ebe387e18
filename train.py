"""Trains a model: python train.py --config configs/tcm_small.py --config.data.source=folder:PATH --workdir DIR."""

import logging
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from tcm_jax import training
from tcm_jax.errors import TcmError

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/; --config.x.y= overrides a field.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and weights. Default: runs/NAME.")


def main(argv: list[str]) -> None:
    """Runs the training that the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax reports every file it touches
    config = CONFIG.value
    try:
        weights = training.train(config, Path(WORKDIR.value or Path("runs") / config.name))
    except TcmError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"trained {config.steps:,} steps; weights: {weights}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
