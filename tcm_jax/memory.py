"""What the C library does with freed memory."""

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


@functools.cache
def keep_freed_memory() -> None:
    """Makes glibc keep what is freed for the next allocation, for the whole process; nothing elsewhere.

    XLA's CPU programs allocate every large array anew. By default glibc gets each from the system and gives it back,
    and the system clears every page of it: plain arithmetic on large arrays takes over three times as long
    (`python benchmarks/freed_memory.py`). The process keeps the most memory that it ever had.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
    mallopt(_M_ARENA_MAX, 1)  # others cannot grow beyond 64 MiB
