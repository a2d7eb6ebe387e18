"""How many cores a benchmark uses; where a system cannot bind them, all of them."""

import os
import sys

from tcm_jax.system.cores import available


def bind(count: int) -> None:
    """Binds this process and those that it starts to the first `count` of its cores; says so where that cannot be."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    else:
        print(f"this system binds no process to cores: {available()} are in use, not {count}", file=sys.stderr)
