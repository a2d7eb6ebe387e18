"""Settings of the whole process, for programs that own it: the package as a library leaves them alone."""

from tcm_jax.system.memory import keep_freed_memory
from tcm_jax.system.program_cache import keep_compiled_programs


def tune_process() -> None:
    """Sets up this process for coding pictures; `tcm` and evaluate.py do, a host program may.

    glibc keeps freed memory (`memory.keep_freed_memory`), and JAX keeps what it compiles on disk
    (`program_cache.keep_compiled_programs`). To be called before JAX meets its devices.
    """
    keep_freed_memory()
    keep_compiled_programs()
