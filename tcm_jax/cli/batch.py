"""Many files at a time: threads over devices, progress, failures collected, a line for each file."""

import concurrent.futures
import contextlib
import json
import queue
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tcm_jax.cli import files
from tcm_jax.cli.files import STANDARD, Job, Plan, clashes
from tcm_jax.errors import TcmError
from tcm_jax.system.files import descriptor
from tcm_jax.system.names import say

if TYPE_CHECKING:
    from tcm_jax.codec.decoder import Decoder

ProcessFile = Callable[["Decoder", Job], dict[str, Any]]  # gives what is known about the output
Engine = Callable[[list[Job]], Iterator[dict[str, Any]]]  # what came of every job, in the order in which they end


def run(
    plan: Plan, engine: Engine, line: Callable[[dict[str, Any]], str], as_json: bool, manifest: str | None = None
) -> int:
    """Does every job of the plan and reports; returns the exit status, 1 if any failed.

    `line` makes a record into text. `manifest` is written anew: an object, input and error, a line for each failure.
    """
    show_special(plan.special)
    failures = [{"input": path, "error": f"TcmError: cannot read {path}: {why}"} for path, why in plan.unreadable]
    done, unsaid = 0, None
    clashing = clashes(plan.jobs)
    for target, same in clashing.items():
        names = " and ".join(job.source for job in same)
        failures.append({"input": names, "error": f"TcmError: {names} would all be written to {target}"})
    jobs = [job for job in plan.jobs if not any(job in same for same in clashing.values())]
    taken = any(job.target == STANDARD for job in jobs) or (manifest and descriptor(manifest) == 1)
    out = sys.stderr if taken else sys.stdout
    with _progress(len(jobs), plan.many and not as_json) as advance:
        for record in engine(jobs) if jobs else ():
            advance(record)
            if "warning" in record:
                say(f"TcmWarning: {record['warning']}", sys.stderr)
            if "error" in record:
                failures.append(record)
            done += "error" not in record
            try:
                if as_json:
                    say(json.dumps(record), out)
                elif "error" not in record:
                    say(line(record), out)
            except BrokenPipeError:  # as in `tcm ... | head`: nobody wants the rest
                raise
            except OSError as error:  # a full disk: the files matter more than what is said of them
                unsaid = error
    for failure in failures:
        say(failure["error"], sys.stderr)
    if plan.many and not as_json:
        failed = f", {len(failures)} failed" if failures else ""
        skipped = f", {plan.skipped} skipped that exist (--overwrite replaces them)" if plan.skipped else ""
        say(f"{done} done{failed}{skipped}", sys.stderr)
    if manifest:
        files.write(manifest, "".join(json.dumps(failure) + "\n" for failure in failures).encode(), makes_folders=False)
    if unsaid:
        raise TcmError(f"what was done could not all be printed: {unsaid.strerror}")
    return 1 if failures else 0


def show_special(special: list[tuple[str, str]]) -> None:
    """Names on stderr what is no file and is not worked on."""
    for path, kind in special:
        say(f"TcmWarning: {path} is {kind}, and is left out", sys.stderr)


def attempt(codec: "Decoder", process_file: ProcessFile, job: Job) -> dict[str, Any]:
    """A record of one job: what is known about the output and how many seconds it took, or the error."""
    start = time.perf_counter()
    try:
        record = {"input": job.source, "output": job.target, **process_file(codec, job)}
        return record | {"seconds": round(time.perf_counter() - start, 3)}
    except TcmError as error:
        return {"input": job.source, "error": f"{type(error).__name__}: {error}"}
    except MemoryError:
        return {"input": job.source, "error": f"TcmError: not enough memory for {job.source}; try --jobs 1"}


def on_this_machine(codecs: list["Decoder"], process_file: ProcessFile, jobs: list[Job]) -> Iterator[dict[str, Any]]:
    """The local engine: gives the record of each job as it ends; a single job runs in this thread.

    `codecs` are what may work at a time (an entry twice: two files on that device), so reading, writing and range
    coding of some files overlap the network of others.
    """
    free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
    for codec in codecs:
        free.put(codec)

    def one(job: Job) -> dict[str, Any]:
        codec = free.get()
        try:
            return attempt(codec, process_file, job)
        finally:
            free.put(codec)

    if len(jobs) < 2 or len(codecs) < 2:
        yield from map(one, jobs)
        return
    pool = concurrent.futures.ThreadPoolExecutor(len(codecs))
    try:
        futures = [pool.submit(one, job) for job in jobs]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _progress(total: int, wanted: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar on stderr with megapixels a second and the time left, if that is a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda record: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    start, pixels = time.perf_counter(), 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, rate="")

        def advance(record: dict[str, Any]) -> None:
            nonlocal pixels
            pixels += record.get("width", 0) * record.get("height", 0)
            rate = pixels / 1e6 / (time.perf_counter() - start)
            progress.update(task, advance=1, rate=f"{rate:.2f} MP/s")

        yield advance
