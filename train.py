"""Trains a model: python train.py --config configs/tcm_small.py:mse-3 --config.data.source=folder:PATH --workdir DIR.

The same command again goes on where the last checkpoint is. Exit status: 0 trained, 1 an error (one sentence says
which), 75 stopped by SIGTERM with everything saved. docs/training.md explains the rest.
"""

import logging
import sys
from pathlib import Path

from tcm_jax.errors import ConfigError, MissingExtraError, Preempted
from tcm_jax.images.formats import check_ending
from tcm_jax.system import signals
from tcm_jax.system.extras import require_extra
from tcm_jax.system.names import file_name, say

NEEDS = ("train", "train.py needs what the codec does without")
try:
    with require_extra(*NEEDS):
        from absl import app, flags
        from absl import logging as absl_logging
        from ml_collections import ConfigDict, config_flags
except MissingExtraError as error:
    sys.exit(f"MissingExtraError: {error}")

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/, with the rate's name after a colon; --config.x.y= overrides a field."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and weights. Default: runs/NAME.")
DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Write a contact sheet of a batch, print images per second, and end.")
EXPORT = flags.DEFINE_string("export", None, "Write the weights of a checkpoint of --workdir to this file, and end.")
STEP = flags.DEFINE_string("step", "newest", "The checkpoint that --export takes: newest, best (validated) or a step.")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "float16", "int8"], "What --export stores.")
FIT_TABLES = flags.DEFINE_integer(
    "fit_tables",
    0,
    "With --export: fit the range coder's tables to so many batches of the training pictures.",
    lower_bound=0,
)
MULTIHOST = flags.DEFINE_boolean("multihost", False, "Join the processes that SLURM, Kubernetes or a TPU pod started.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where nothing detects the processes.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator: how many processes there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator: which of them this is, from 0.")

PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again


def main(argv: list[str]) -> None:
    """Does what the flags ask."""
    if len(argv) > 1:
        raise ConfigError(f"unexpected argument {argv[1]!r}")
    show_messages()
    connect()
    import jax

    from tcm_jax.system.devices import local_devices
    from tcm_jax.system.files import descriptor
    from tcm_jax.system.memory import prepare_training
    from tcm_jax.system.program_cache import keep_compiled_programs
    from tcm_jax.training.dry_run import dry_run
    from tcm_jax.training.export import export
    from tcm_jax.training.loop import train

    prepare_training()
    local_devices()
    first = jax.process_index() == 0
    logging.getLogger("tcm_jax").setLevel(logging.INFO if first else logging.WARNING)
    keep_compiled_programs()
    config = CONFIG.value
    workdir = Path(WORKDIR.value or Path("runs") / config.name)
    if DRY_RUN.value:
        path, speed = dry_run(config, workdir)
        say(f"{speed:.1f} images/s from {config.data.source}; contact sheet: {path}", sys.stdout)
    elif EXPORT.value:
        path = Path(EXPORT.value)
        export(config, workdir, path, STEP.value, DTYPE.value, FIT_TABLES.value)
        say(f"weights: {path}", sys.stderr if descriptor(path) == 1 else sys.stdout)
    else:
        if first:
            print(config)
        weights = train(config, workdir)
        if first:
            say(f"trained {config.steps:,} steps; weights: {weights}", sys.stdout)


def check_installed() -> None:
    """Raises MissingExtraError for what would be missed after the first steps."""
    with require_extra(*NEEDS):
        import grain  # noqa: F401
        import optax  # noqa: F401
        import orbax.checkpoint  # noqa: F401
        import tensorboardX  # noqa: F401


def connect() -> None:
    """Joins the other processes, if the flags say that there are any."""
    import jax

    explicit = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if any(value is not None for value in explicit) and None in explicit:
        raise ConfigError("--coordinator, --num_processes and --process_id go together")
    if not MULTIHOST.value and COORDINATOR.value is None:
        return
    try:
        jax.distributed.initialize(*explicit)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cannot join the other processes ({str(error).strip().splitlines()[0]}); "
            "where no cluster is detected, give --coordinator, --num_processes and --process_id"
        ) from error


def show_messages() -> None:
    """Our messages above the progress bar; of libraries, warnings alone, and none of Orbax, which also raises them."""
    from rich.logging import RichHandler

    handler = RichHandler(show_time=False, show_level=False, show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    absl_logging.set_verbosity(absl_logging.FATAL)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; what is wrong with them or with a configuration becomes a ConfigError."""
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except AttributeError as error:  # ml_collections, for a field that a configuration lacks
        inner = error.args[0]
        text = inner.args[0] if isinstance(inner, Exception) else inner
        raise ConfigError(f"the configuration has no field {' '.join(text.split())}") from error
    if CONFIG.value is None:
        raise ConfigError("no configuration: give --config configs/tcm_small.py, or another file of configs/")
    for name in (WORKDIR.value, EXPORT.value):
        if name is not None:
            file_name(name)
    if EXPORT.value:
        check_ending(EXPORT.value, ".safetensors")
    if DRY_RUN.value and EXPORT.value:
        raise ConfigError("give one of --dry_run and --export, not both")
    if not EXPORT.value and (alone := [flag.name for flag in (STEP, DTYPE, FIT_TABLES) if flag.present]):
        raise ConfigError(f"--{alone[0]} is for --export FILE, which is not given")
    if not isinstance(CONFIG.value, ConfigDict):
        raise ConfigError("cannot read the file given as --config; the configurations are in configs/")
    return rest


def run() -> int:
    """The program; its exit status."""
    check_installed()
    try:
        app.run(main, flags_parser=parse)
    except Preempted as stop:
        say(stop, sys.stderr)
        return PREEMPTED
    return 0


if __name__ == "__main__":
    signals.prepare()
    sys.exit(signals.outcome(run))
