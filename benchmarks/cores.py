"""How many cores a benchmark has and uses; where a system cannot say or bind them, all of them."""

import os
import sys


def available() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bind(count: int) -> None:
    """Binds this process and those that it starts to the first `count` of its cores; says so where that cannot be."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    else:
        print(f"this system binds no process to cores: {available()} are in use, not {count}", file=sys.stderr)
