"""An object in a process of its own: one library's settings of memory and threads do not reach the other's."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax

from tcm_jax.system.memory import peak_resident_bytes

_made: list[Any] = []


def _make(cls: type, arguments: tuple) -> None:
    _made.append(cls(*arguments))


def _call(method: str, arguments: tuple) -> tuple[Any, float]:
    start = time.perf_counter()
    result = getattr(_made[0], method)(*arguments)
    return result, time.perf_counter() - start


class Apart:
    """`cls(*arguments)`, made in a new process with this one's cores."""

    def __init__(self, cls: type, *arguments):
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, initializer=_make, initargs=(cls, arguments))

    def timed(self, method: str, *arguments) -> tuple[Any, float]:
        """What the method returned and the seconds that it took there, without the transfer."""
        return self._pool.submit(_call, method, arguments).result()

    def peak_mib(self) -> int:
        """The most memory that its process had."""
        return self._pool.submit(peak_resident_bytes).result() // 2**20

    def close(self) -> None:
        """Ends its process."""
        self._pool.shutdown()


def references() -> list[tuple[str, bool]]:
    """(name, whether products may be in TF32) of the reference's settings: on a GPU as it comes and without TF32."""
    by_default = [("reference", True)]
    return by_default if jax.default_backend() == "cpu" else [*by_default, ("reference_without_tf32", False)]
