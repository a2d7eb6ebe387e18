"""A command's heavy imports, made quick: a single picture takes hardly longer."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Imports what is inside without the garbage collector, which would look through every module again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # and from now on it need not look at them at all
        gc.enable()
