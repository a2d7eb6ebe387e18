"""The memory that is reported is the process's own."""

import subprocess
import sys

import pytest

from tcm_jax.system.memory import peak_resident_bytes


def test_a_peak_does_not_begin_with_the_starting_process():
    held = b"x" * 2**28  # bytes that are there, and not only promised
    assert peak_resident_bytes() > len(held)
    command = "from tcm_jax.system.memory import peak_resident_bytes; print(peak_resident_bytes())"
    child = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert 2**20 < int(child.stdout) < len(held)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps memory")
def test_kept_memory_is_given_back_when_asked():
    """Holes between what is held, too: half a gigabyte of arrays, of which every second one goes."""
    command = """
import numpy as np
from pathlib import Path
from tcm_jax.system.memory import give_back_freed_memory, keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
keep_freed_memory()
held = [np.ones(2**23, np.uint8) for _ in range(64)]
del held[::2]
kept = resident()
give_back_freed_memory()
print(kept - resident(), all(array.all() for array in held))
"""
    child = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    freed, intact = child.stdout.split()
    assert int(freed) > 0.9 * 2**28
    assert intact == "True"
