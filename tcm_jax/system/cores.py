"""How many cores there are for this process."""

import os


def available() -> int:
    """Cores that this process may use; all of the machine's where the system cannot say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
