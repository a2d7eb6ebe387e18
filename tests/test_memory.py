"""The memory that is reported is the process's own."""

import subprocess
import sys

from tcm_jax.system.memory import peak_resident_bytes


def test_a_peak_does_not_begin_with_the_starting_process():
    held = b"x" * 2**28  # bytes that are there, and not only promised
    assert peak_resident_bytes() > len(held)
    command = "from tcm_jax.system.memory import peak_resident_bytes; print(peak_resident_bytes())"
    child = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert 2**20 < int(child.stdout) < len(held)
