"""The engine of `--engine ray`: the workers of a Ray cluster process the files (docs/usage.md)."""

import argparse
import contextlib
import functools
import json
import logging
import os
import queue
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tcm_jax.cli import batch, storage
from tcm_jax.cli.files import STANDARD, Job
from tcm_jax.cli.one_file import Command, open_codecs, process_file
from tcm_jax.cli.stages import Stages
from tcm_jax.errors import ConfigError, TcmError
from tcm_jax.system.extras import require_extra
from tcm_jax.system.files import descriptor

if TYPE_CHECKING:
    from tcm_jax.codec.decoder import Decoder
    from tcm_jax.weights.weights import Weights

ATTEMPTS = 3  # at a file whose workers die


@contextlib.contextmanager
def connected(args: argparse.Namespace) -> Iterator[None]:
    """A connection to Ray, made before JAX has threads that a fork would lose.

    Raises MissingExtraError without Ray, ConfigError for standard input or output, TcmError without a cluster.
    """
    # Ray's C++ parts would write to stderr that actors with arguments may not restart; ours can.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with require_extra("ray", "--engine ray needs Ray"):
        import ray.data

    if any(path == STANDARD or descriptor(path) in (0, 1) for path in [*args.inputs, args.output or ""]):
        raise ConfigError("--engine ray works on files, not on standard input or output")
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        _knock(address)
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, by what is wrong
        where = f"at {address} (RAY_ADDRESS)" if address else "on this machine"
        raise TcmError(f"there is no Ray cluster to work with {where}: {batch.last_line(error)}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False  # batch.py shows one
    import jax

    jax.config.update("jax_platforms", "cpu")  # accelerators are the workers'
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError if nobody is at host:port; Ray itself tries for a quarter of an hour."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def on_cluster(args: argparse.Namespace, command: Command, weights: "Weights", jobs: list[Job]) -> Iterator[dict]:
    """Gives the record of each job as it ends. Raises TcmError if the workers cannot be.

    The weights are sent to the workers, so these need neither the file nor what reads it. A worker that dies is
    replaced, and what it was at is begun again.
    """
    import ray

    size, cpus, gpus = workers(ray.nodes(), args.jobs, len(jobs))
    rows = [{"source": job.source, "target": job.target} for job in absolute(jobs)]
    attempts = ray.remote(_Attempts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Worker,
        batch_size=1,  # a file, so that no other is done again when it kills its worker
        fn_constructor_args=(args, command, ray.put(weights), attempts),
        compute=ray.data.ActorPoolStrategy(
            size=size,
            max_tasks_in_flight_per_actor=args.jobs,
            max_concurrent_calls_per_actor=args.jobs,
            enable_true_multi_threading=True,
        ),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where Ray prints that a worker died
            for row in done.iter_rows():
                yield json.loads(row["record"])
    except ray.exceptions.RayError as error:
        raise TcmError(f"the cluster gave up: {batch.last_line(error)}") from error


def absolute(jobs: list[Job]) -> list[Job]:
    """The jobs with names as workers understand them, which are in another folder."""
    return [Job(storage.absolute(job.source), storage.absolute(job.target)) for job in jobs]


def workers(nodes: list[dict[str, Any]], jobs: int, files: int) -> tuple[int, int, int]:
    """(how many workers there is room and work for, the CPUs of each, the GPUs of each).

    `nodes` are those of `ray.nodes()`. A worker has a CPU for each of the `jobs` files that it works on at a time, and,
    if the cluster has any, a GPU.
    """
    room = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = any(node.get("GPU") for node in room)
    room = [node for node in room if node.get("GPU") or not gpus]
    cpus = max(1, min(jobs, int(max(node.get("CPU", 0) for node in room))))
    fitting = sum(int(min(node.get("CPU", 0) // cpus, node["GPU"] if gpus else files)) for node in room)
    return max(1, min(fitting, -(-files // jobs))), cpus, int(gpus)


class _Attempts:
    """Counts how often each file was begun: one that kills its worker would otherwise be begun for ever."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}

    def begin(self, source: str) -> int:
        self._begun[source] = self._begun.get(source, 0) + 1
        return self._begun[source]


class _Worker:
    """Codecs of one process, and the files given to it one by one, `args.jobs` at a time."""

    def __init__(self, args: argparse.Namespace, command: Command, weights: Any, attempts: Any) -> None:
        import ray

        self._args, self._command, self._attempts = args, command, attempts
        self._free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for codec in open_codecs(args, Stages(), ray.get(weights)):
            self._free.put(codec)

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[str]]:
        job = Job(str(rows["source"][0]), str(rows["target"][0]))
        return {"record": [json.dumps(self._record(job))]}

    def _record(self, job: Job) -> dict[str, Any]:
        import ray

        if ray.get(self._attempts.begin.remote(job.source)) > ATTEMPTS:
            died = f"{ATTEMPTS} workers died at {job.source}, or at a file beside it; try --jobs 1"
            return {"input": job.source, "error": f"TcmError: {died}"}
        codec = self._free.get()
        try:
            return batch.attempt(codec, functools.partial(process_file, self._args, self._command, Stages()), job)
        finally:
            self._free.put(codec)
