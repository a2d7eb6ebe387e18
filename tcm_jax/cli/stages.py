"""Where a command's time goes, for --verbose."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from tcm_jax.system.names import say


class Stages:
    """Seconds by stage, summed over threads."""

    def __init__(self):
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Counts what runs inside towards `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Counts `seconds` towards `stage`."""
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def watch_programs(self) -> None:
        """Counts what the network's programs take until they are compiled or loaded as a stage of its own."""
        from tcm_jax.codec.programs import on_made

        on_made.append(lambda seconds: self.add("of which programs", seconds))

    def show(self) -> None:
        """Prints the seconds of all stages on stderr, in one line."""
        say(", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self._seconds.items()), sys.stderr)
