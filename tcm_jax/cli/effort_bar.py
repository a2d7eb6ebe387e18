"""What a search for latents shows on the terminal: steps, the loss, the time left."""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def effort_bar(wanted: bool) -> Iterator[Callable[[int, int, float], None] | None]:
    """`Effort.on_step` that draws a bar on stderr, if that is `wanted` and a terminal; else None.

    A search that begins anew, as for a target, begins the bar anew.
    """
    if not (wanted and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def on_step(done: int, total: int, loss: float) -> None:
            if done == 1:
                progress.reset(task, total=total)
            progress.update(task, completed=done, description=f"loss {loss:.4f}")

        yield on_step
