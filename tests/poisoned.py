"""`tcm compress`, but a picture with "poison" in its name kills the worker that reads it.

python -c "import poisoned; poisoned.main()" ARGUMENTS, with this folder on the workers' PYTHONPATH.
"""

import dataclasses
import os
import signal
import sys

from tcm_jax import cli
from tcm_jax.cli import one_file


def code(args, codec, data, source):
    """As `one_file.COMPRESS.code`."""
    if "poison" in source:
        os.kill(os.getpid(), signal.SIGKILL)
    return ORIGINAL.code(args, codec, data, source)


ORIGINAL = one_file.COMPRESS


def main() -> None:
    """The command."""
    one_file.COMPRESS = dataclasses.replace(ORIGINAL, code=code)
    sys.exit(cli.main())
