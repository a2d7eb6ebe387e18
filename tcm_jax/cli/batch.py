"""Many files at a time: threads over devices, progress, failures collected, a line for each file."""

import concurrent.futures
import json
import queue
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from tcm_jax.cli import manifest
from tcm_jax.cli.files import STANDARD, Job, Plan, clashes
from tcm_jax.cli.progress import NoBar, progress
from tcm_jax.errors import TcmError
from tcm_jax.system.names import say

if TYPE_CHECKING:
    from tcm_jax.codec.decoder import Decoder

ProcessFile = Callable[["Decoder", Job], dict[str, Any]]  # gives what is known about the output
Engine = Callable[[list[Job]], Iterator[dict[str, Any]]]  # what came of every job, in the order in which they end


def run(
    plan: Plan, engine: Engine, line: Callable[[dict[str, Any]], str], as_json: bool, listed: str | None = None
) -> int:
    """Does every job of the plan and reports; returns the exit status, 1 if any failed.

    `line` makes a record into text. The failures are listed in the file `listed`, also where the work is interrupted.
    """
    show_special(plan.special)
    jobs, failures = _without_clashes(plan)
    failures += [{"input": path, "error": f"TcmError: cannot read {path}: {why}"} for path, why in plan.unreadable]
    taken = manifest.is_standard_output(listed) or any(job.target == STANDARD for job in jobs)
    out = sys.stderr if taken else sys.stdout
    done, unsaid = 0, None
    try:
        with progress(len(jobs), plan.many and not as_json) as bar:
            for record in engine(jobs) if jobs else ():
                bar.advance(record)
                if "error" in record:
                    failures.append(record)
                done += "error" not in record
                unsaid = _say_record(bar, record, json.dumps if as_json else line, out, as_json) or unsaid
        _say_failures(plan, done, failures, as_json)
    finally:
        if listed is not None:
            manifest.write(listed, failures)
    if unsaid:
        raise TcmError(f"what was done could not all be printed: {unsaid.strerror}")
    return 1 if failures else 0


def _without_clashes(plan: Plan) -> tuple[list[Job], list[dict[str, Any]]]:
    """(the jobs with an output of their own, failures for the others)."""
    failures, clashing = [], set()
    for target, same in clashes(plan.jobs).items():
        names = " and ".join(job.source for job in same)
        failures.append({"input": names, "error": f"TcmError: {names} would all be written to {target}"})
        clashing.update(same)
    return [job for job in plan.jobs if job not in clashing], failures


def _say_record(
    bar: NoBar, record: dict[str, Any], line: Callable[[dict[str, Any]], str], out: TextIO | None, errors: bool
) -> OSError | None:
    """Prints what came of a file, an error only if `errors`; the error of a full disk, which must stop no file."""
    if "warning" in record:
        bar.say(f"TcmWarning: {record['warning']}", sys.stderr)
    try:
        if errors or "error" not in record:
            bar.say(line(record), out)
    except BrokenPipeError:  # as in `tcm ... | head`: nobody wants the rest
        raise
    except OSError as error:
        return error
    return None


def _say_failures(plan: Plan, done: int, failures: list[dict[str, Any]], as_json: bool) -> None:
    for failure in failures:
        say(failure["error"], sys.stderr)
    if plan.many and not as_json:
        failed = f", {len(failures)} failed" if failures else ""
        skipped = f", {plan.skipped} skipped that exist (--overwrite replaces them)" if plan.skipped else ""
        say(f"{done} done{failed}{skipped}", sys.stderr)


def show_special(special: list[tuple[str, str]]) -> None:
    """Names on stderr what is no file and is not worked on."""
    for path, kind in special:
        say(f"TcmWarning: {path} is {kind}, and is left out", sys.stderr)


def attempt(codec: "Decoder", process_file: ProcessFile, job: Job) -> dict[str, Any]:
    """A record of one job: what is known about the output and how many seconds it took, or the error, of any kind.

    A library's error, such as that of a device without memory, must not end the work on the other files.
    """
    start = time.perf_counter()
    try:
        record = {"input": job.source, "output": job.target, **process_file(codec, job)}
        return record | {"seconds": round(time.perf_counter() - start, 3)}
    except TcmError as error:
        return {"input": job.source, "error": f"{type(error).__name__}: {error}"}
    except MemoryError:
        return {"input": job.source, "error": f"TcmError: not enough memory for {job.source}; try --jobs 1"}
    except BrokenPipeError:  # the reader of standard output has left
        raise
    except Exception as error:
        return {"input": job.source, "error": f"{type(error).__name__}: {job.source}: {last_line(error)}"}


def last_line(error: Exception) -> str:
    """What an error says in the end, or its kind if it says nothing."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


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
