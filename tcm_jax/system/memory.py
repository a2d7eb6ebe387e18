"""What the C library does with freed memory, and the most that the process had."""

import ctypes
import os
import sys
from pathlib import Path

from tcm_jax.system.devices import beside_accelerators

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h
_MADV_HUGEPAGE, _HUGE_PAGE = 14, 2**21  # of Linux; the size on x86-64 and most others
_called: list[bool] = []  # one entry once it was
_keeping: list[ctypes.CDLL] = []  # the C library, once it keeps freed memory


def keep_freed_memory(one_arena: bool = True) -> None:
    """Makes glibc keep what is freed for the next allocation, in huge pages, for the whole process; nothing elsewhere.

    The first call decides for the process. Where JAX may compute on another device than a CPU, nothing is done.

    XLA's CPU programs allocate every large array anew. By default glibc gets each from the system and gives it back,
    and the system clears every page of it: plain arithmetic on large arrays takes several times as long
    (`python benchmarks/freed_memory.py`). The process keeps the most memory that it ever had.

    Only the first of glibc's arenas holds large arrays, so that all threads must share it where JAX dispatches
    asynchronously: XLA's threads allocate the arrays then. Where it does not, the main thread does, and
    `one_arena=False` leaves the threads their own: in an arena that a large program's compilation left in pieces, the
    scratch memory of XLA's matrix products takes a quarter of a training step.
    """
    if _called or not sys.platform.startswith("linux") or beside_accelerators():
        return
    _called.append(True)
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # not glibc
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
    if one_arena:
        libc.mallopt(_M_ARENA_MAX, 1)
    _ask_for_huge_pages(libc)
    _keeping.append(libc)


def give_back_freed_memory() -> None:
    """Gives the system what `keep_freed_memory` made glibc keep so far; nothing where it keeps nothing.

    For work whose next large array would fit in none of the freed ones, so that the process would hold both.
    """
    for libc in _keeping:
        libc.malloc_trim(0)
        _ask_for_huge_pages(libc)  # the heap's end, which was given back, may grow again


def prepare_training() -> None:
    """`keep_freed_memory` with arenas for all threads, and the synchronous dispatch that it needs.

    To be called before JAX meets its devices: later, its threads have arenas already, where nothing large fits, and a
    training step's memory comes from the system anew each time.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    keep_freed_memory(one_arena=False)


def peak_resident_bytes() -> int:
    """The most physical memory that this process has had.

    Linux's `ru_maxrss` begins with what the starting process had when it made this one, so that it is not asked there.
    """
    if sys.platform == "win32":
        return _peak_working_set()
    if sys.platform.startswith("linux"):
        text = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")  # a program's name is any bytes
        status = dict(line.split(":", 1) for line in text.splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _ProcessMemoryCounters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of Windows' psapi.h."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        *((name, ctypes.c_size_t) for name in (
            "peak_working_set", "working_set", "peak_paged_pool", "paged_pool", "peak_nonpaged_pool", "nonpaged_pool",
            "page_file", "peak_page_file",
        )),
    )  # fmt: skip


def _peak_working_set() -> int:
    """`peak_resident_bytes` on Windows."""
    kernel, counters = ctypes.WinDLL("kernel32"), _ProcessMemoryCounters()  # type: ignore[attr-defined]
    counters.size = ctypes.sizeof(counters)
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    ask = kernel.K32GetProcessMemoryInfo
    ask.argtypes = [ctypes.c_void_p, ctypes.POINTER(_ProcessMemoryCounters), ctypes.c_uint32]
    if not ask(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size):
        raise OSError("Windows does not say how much memory the process has")
    return counters.peak_working_set


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """Grows the heap by half of the machine's memory, untouched and so without cost, and marks it."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    address = libc.malloc(size)
    if address is None:  # the system grants no more than it has
        return
    libc.free(address)
    first = -(-address // _HUGE_PAGE) * _HUGE_PAGE
    libc.madvise(first, size - 2 * _HUGE_PAGE, _MADV_HUGEPAGE)  # an error means small pages
