"""A command's heavy imports, made quick: a single picture takes hardly longer."""

import contextlib
import gc
import sys
from collections.abc import Iterator

_BLAS = "scipy.linalg.cython_blas"


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """For what is imported inside: no garbage collector, which would look through every module again and again.

    Nor SciPy, which Numba imports only to see whether there is a BLAS, which no command needs.
    """
    absent = _BLAS not in sys.modules
    if absent:
        sys.modules[_BLAS] = None  # type: ignore[assignment]  # what stops an import
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # and from now on it need not look at them at all
        gc.enable()
        if absent:
            del sys.modules[_BLAS]
