"""What the first picture on a machine needs, made ahead by helping processes: `tcm warm-up`, and the first command.

One process takes a dozen seconds. Its helpers begin with the programs, or with the kernels that it comes to last, and
keep what they make; it goes on as usual, and finds what is there by then.
"""

import argparse
import contextlib
import functools
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from tcm_jax.cli.startup import quick_imports
from tcm_jax.errors import ConfigError
from tcm_jax.system import cores
from tcm_jax.system.cache import cache_folder
from tcm_jax.system.devices import only_this_cpu
from tcm_jax.system.names import say
from tcm_jax.system.program_cache import kept

_SAID = "compiling for this machine, once: ten to twenty seconds"
_MOST = 3  # helpers, as many as make it quicker
_helpers: list[subprocess.Popen] = []  # held, as Python warns of one that is forgotten


def help_once(weights: str | None) -> None:
    """Starts helpers for what a codec of these weights needs, unless a command has done so on this machine before."""
    if not only_this_cpu():
        return
    try:
        _mark_start(again=False)
    except OSError:  # it is marked, or nothing can be kept
        return
    if sys.stderr is not None and sys.stderr.isatty():
        say(_SAID, sys.stderr)
    _start_helpers(weights)


def _mark_start(again: bool) -> None:
    """Raises OSError where nothing can be kept, and for a second start that is not one `again`."""
    mark = kept("helpers were started")
    if mark is None:
        raise OSError("there is no home folder")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch(exist_ok=again)


def _start_helpers(weights: str | None) -> None:
    environment, nowhere = os.environ | {"JAX_PLATFORMS": "cpu"}, subprocess.DEVNULL
    for number in range(min(cores.available() - 1, _MOST)):
        # -P: a folder of pictures that one is in holds no modules for it.
        command = [sys.executable, "-P", "-m", __name__, str(number), *([] if weights is None else [weights])]
        with contextlib.suppress(OSError):  # then this process does all
            helper = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, env=environment)
            _helpers.append(helper)


def warm_up(_: argparse.Namespace) -> None:
    """`tcm warm-up`: makes all that pictures of any size need with the embedded models, and keeps it."""
    start = time.perf_counter()
    if not only_this_cpu():
        raise ConfigError("beside GPUs and TPUs XLA compiles for each size of picture: nothing can be made ahead")
    if not _has_kernels():
        raise ConfigError("there are no kernels for this processor, so XLA compiles for each size of picture")
    try:
        _mark_start(again=True)
    except OSError as error:
        raise ConfigError(f"cannot keep anything ({error}); set XDG_CACHE_HOME to a writable folder") from error
    say(_SAID, sys.stderr)
    _start_helpers(None)
    for make in _kernels():
        make()
    _keep_programs(None)
    for helper in _helpers:
        helper.wait()
    say(f"ready in {time.perf_counter() - start:.1f} s, kept in {cache_folder()}", sys.stdout)


def _has_kernels() -> bool:
    with quick_imports():
        from tcm_jax.ops.kernels.machine import FUSES
    return FUSES


def _kernels() -> Iterator[Callable[[], object]]:
    """Makers of what a codec calls in machine code; after the layer's in the order in which it comes to them."""
    from tcm_jax.entropy import pattern_coder, pixel_coder, pixel_moments, range_coder, table_choice
    from tcm_jax.ops.kernels import handlers

    yield from (pattern_coder.load, pixel_moments.load)
    yield from (function.load for function in (pixel_coder.decode, pixel_coder.residuals, pixel_coder.encode))
    yield range_coder.decode.load
    for name in handlers.IN_ORDER:
        yield functools.partial(handlers.address_of, handlers.KERNELS[name], 3)
    for name in handlers.POOL:
        yield functools.partial(handlers.address_in_pool, name)
    yield lambda: table_choice.chosen_tables(np.ones(1, np.float32), 0.0)
    yield range_coder.encode.load


def _keep_programs(weights: str | None) -> None:
    """Traces all programs for the kernels, which need not be there yet."""
    from tcm_jax.codec.program_calls import program_calls
    from tcm_jax.codec.programs import Parameters
    from tcm_jax.codec.tiled_network import PROGRAMS
    from tcm_jax.ops.compile_target import Target
    from tcm_jax.training.open_weights import open_weights

    opened = open_weights(weights)
    params = Parameters(opened.params)
    for name, arguments in program_calls(opened.config):
        PROGRAMS[name].target = lambda platform: Target(platform, "codec")
        PROGRAMS[name].executable(opened.config, params, *arguments)


def help_along(number: int, weights: str | None) -> None:
    """What helper `number` does: the first one begins with programs, the others at other kernels."""
    if not _has_kernels():
        return
    if number == 0:
        _keep_programs(weights)
    backwards, first = list(_kernels())[::-1], 4 * number
    for make in itertools.islice(itertools.cycle(backwards), first, first + len(backwards)):
        make()


if __name__ == "__main__":
    help_along(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
