"""The checkpoints of a training run (Orbax): everything that it needs to go on as if it had not stopped."""

import contextlib
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tcm_jax.errors import WeightsError
from tcm_jax.system.extras import require_extra

log = logging.getLogger(__name__)


class RunCheckpoints:
    """State and data position, saved in the background; the last `keep` are kept, and the best one.

    While another is saved, all of these are still there.
    A checkpoint appears under its name (the step) only when it is complete, and carries a checksum of its arrays.
    """

    def __init__(self, folder: Path, keep: int, *, read_only: bool = False):
        with require_extra("train", "a run's checkpoints need Orbax"):
            import orbax.checkpoint as ocp

        self._ocp, self._keep, self._folder = ocp, keep, folder.absolute()
        handlers = {"state": ocp.StandardCheckpointHandler(), "extra": ocp.JsonCheckpointHandler()}
        with _quiet() if read_only else contextlib.nullcontext():
            options = ocp.CheckpointManagerOptions(
                cleanup_tmp_directories=not read_only,  # what a killed process left half written
                read_only=read_only,
            )
            self._manager = ocp.CheckpointManager(self._folder, item_handlers=handlers, options=options)
        self._losses = {step: self._read_loss(step) for step in self.steps()}

    def __enter__(self) -> "RunCheckpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation loss, if any was saved with one."""
        losses = {step: loss for step in self.steps() if (loss := self._losses.get(step)) is not None}
        return min(losses, key=losses.__getitem__, default=None)

    def _read_loss(self, step: int) -> float | None:
        args = self._ocp.args
        try:
            return self._manager.restore(step, args=args.Composite(extra=args.JsonRestore())).extra["loss"]
        except Exception:  # damaged, of which `restore` will tell
            return None

    def save(self, state: Any, position: int, loss: float | None = None) -> None:
        """Saves `state` (its `step` names the checkpoint), the data position and, if known, the validation loss.

        Returns when the arrays are copied; `wait` waits for the disk. An earlier save that failed is raised here.
        """
        self.wait()
        args, step = self._ocp.args, int(state.step)
        if step in self.steps():  # saved before the run went back
            self._manager.delete(step)
        extra = args.JsonSave({"position": position, "loss": loss, "checksum": checksum(state)})
        self._manager.save(step, args=args.Composite(state=args.StandardSave(state), extra=extra), force=True)
        self._losses[step] = loss

    def wait(self) -> None:
        """Returns when everything saved is on the disk, and what is not kept is gone; raises what went wrong there."""
        self._manager.wait_until_finished()
        for step in self.steps()[: -self._keep]:
            if step != self.best():
                self._manager.delete(step)

    def restore(self, abstract: Any, sharding: jax.sharding.Sharding) -> tuple[Any, int] | None:
        """(newest readable state, shaped as `abstract` and placed by `sharding`; data position); None if none is saved.

        Checkpoints that are cut short or altered are named in the log and moved to the folder `damaged` beside
        this one, once an older one was read. Raises WeightsError, and moves nothing, if none can be read, or one that
        cannot holds another state, as of a run with another optimizer.
        """
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract)
        damaged = {}
        for step in reversed(self.steps()):
            try:
                state, extra = self._read(step, target)
            except Exception as error:  # Orbax, TensorStore and JSON each have their own
                self._check_structure(step, target)
                damaged[step] = _first_line(error)
                continue
            for bad, reason in damaged.items():
                log.warning("checkpoint %d cannot be read (%s); going on from checkpoint %d", bad, reason, step)
            self._move_away(list(damaged))
            return state, extra["position"]
        if damaged:
            reason = next(iter(damaged.values()))
            raise WeightsError(
                f"none of the {len(damaged)} checkpoints in {self._folder} can be read ({reason}); "
                "give another --workdir to start anew"
            )
        return None

    def _check_structure(self, step: int, target: Any) -> None:
        """Raises WeightsError if a checkpoint says that it holds other arrays than `target`."""
        try:
            saved = _arrays(self._manager.item_metadata(step)["state"].tree)
        except Exception:  # it says nothing any more
            return
        wanted = _arrays(target)
        differ = [name for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
        if differ:
            raise WeightsError(
                f"checkpoint {step} in {self._folder} is of a run with another state ({len(differ)} arrays differ, "
                f"such as {differ[0]}): go on with that run's optimizer and schedule, or give another --workdir "
                "(and --config.init_from=FILE to start from its weights)"
            )

    def read(self, step: int) -> Any:
        """The state of checkpoint `step` as nested dicts of NumPy arrays. Raises WeightsError if it is damaged."""
        try:
            # A run on several devices may be read on one.
            here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            saved = self._manager.item_metadata(step)["state"].tree
            target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), saved)
            return jax.tree.map(np.asarray, self._read(step, target)[0])
        except Exception as error:
            raise WeightsError(f"checkpoint {step} in {self._folder} cannot be read: {_first_line(error)}") from error

    def _read(self, step: int, target: Any) -> tuple[Any, dict]:
        args = self._ocp.args
        items = args.Composite(state=args.StandardRestore(target), extra=args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        if checksum(restored.state) != restored.extra["checksum"]:
            raise WeightsError("its arrays do not have the checksum that it states")
        return restored.state, restored.extra

    def _move_away(self, steps: list[int]) -> None:
        if steps and jax.process_index() == 0:
            aside = self._folder.parent / "damaged"
            aside.mkdir(exist_ok=True)
            for step in steps:
                (self._folder / str(step)).rename(aside / f"{step}-{len(list(aside.iterdir()))}")
        if steps:
            _wait_for_all("damaged checkpoints moved")
            self._manager.reload()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from telling that it only reads, and that metrics are missing, which no run saves (0.11)."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _wait_for_all(name: str) -> None:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def _arrays(tree: Any) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """(shape, dtype) of every array of a state by its path, whatever kind of containers hold it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path):
        (tuple(leaf.shape), np.dtype(leaf.dtype))
        for path, leaf in leaves
    }  # fmt: skip


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def checksum(tree: Any) -> int:
    """Sum of the CRC-32 of all arrays of `tree`: it does not depend on what kind of containers hold them."""
    return sum(zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data) for leaf in jax.tree.leaves(tree))


def load_run(folder: Path, step: int | str | None = None) -> tuple[dict[str, Any], int]:
    """(averaged parameters as vectors, step) of a checkpoint of a run: the newest, number `step`, or "best" (by loss).

    `folder` is the run's, or its checkpoints folder. Raises WeightsError if there is none, or it is damaged.
    """
    folder = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    with RunCheckpoints(folder, keep=1, read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise WeightsError(f"{folder} holds no Orbax checkpoint")
        named: dict[Any, Any] = {None: steps[-1], "best": checkpoints.best()}
        chosen: Any = named.get(step, step)
        if chosen not in steps:
            what = "validated checkpoint" if step == "best" else f"checkpoint {step}"
            raise WeightsError(f"{folder} holds no {what}, only {', '.join(map(str, steps))}")
        return checkpoints.read(chosen)["ema"], chosen
