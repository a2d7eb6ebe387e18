"""The progress bar of many files, and lines that come out whole above it."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from tcm_jax.system.names import printable, say


class NoBar:
    """What is shown where there is no terminal for a bar: lines alone."""

    def advance(self, record: dict[str, Any]) -> None:
        """Counts a file that is done, of which `record` tells."""

    def say(self, text: str, stream: TextIO | None) -> None:
        """Prints one line."""
        say(text, stream)


class Bar(NoBar):
    """A bar on stderr with megapixels a second and the time left."""

    def __init__(self, bar: Any, total: int):
        self._bar, self._task = bar, bar.add_task("", total=total, rate="")
        self._start, self._pixels = time.perf_counter(), 0

    def advance(self, record: dict[str, Any]) -> None:
        """Moves the bar on by a file."""
        self._pixels += record.get("width", 0) * record.get("height", 0)
        rate = self._pixels / 1e6 / (time.perf_counter() - self._start)
        self._bar.update(self._task, advance=1, rate=f"{rate:.2f} MP/s")

    def say(self, text: str, stream: TextIO | None) -> None:
        """Prints one line: above the bar if it is for a terminal, as that is where the bar is, too."""
        if stream is None or not stream.isatty():
            say(text, stream)
            return
        from rich.text import Text

        console = self._bar.console
        console.print(Text(printable(text, console.encoding)), soft_wrap=True)


@contextlib.contextmanager
def progress(total: int, wanted: bool) -> Iterator[NoBar]:
    """A bar for so many files, if that is `wanted` and stderr is a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield NoBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    shown = sys.stdout is not None and sys.stdout.isatty()  # what goes to a file must not come to the terminal
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=shown) as bar:
        yield Bar(bar, total)
