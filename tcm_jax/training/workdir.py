"""The folder of a training run, held by one process."""

import contextlib
import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import ml_collections

from tcm_jax.errors import ConfigError, TcmError
from tcm_jax.model.config import ModelConfig
from tcm_jax.system.files import atomic_write

OF_WEIGHTS = ("model", "distortion", "lam", "level_lams")  # fields that an exported file states
_OF_A_RUN = (*OF_WEIGHTS, "optimizer")  # fields that stay as they were
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what some file systems answer: they go without


@contextlib.contextmanager
def hold_workdir(workdir: Path, config: ml_collections.ConfigDict) -> Iterator[None]:
    """Within it the folder exists, holds config.json, and no other process trains in it.

    Raises ConfigError for the folder of a run with another network, rate or optimizer, unless that saved no
    checkpoint; TcmError while another process has it.
    """
    text = config.to_json_best_effort(indent=2) + "\n"
    if _has_checkpoint(workdir) and (differ := differing(workdir, config, _OF_A_RUN)):
        raise ConfigError(
            f"{workdir} holds a run with another {' and another '.join(differ)}; give another --workdir "
            "(and --config.init_from=FILE to start from its weights)"
        )
    if jax.process_index():
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "lock").open("wb") as lock:
        _lock(lock, workdir)
        atomic_write(workdir / "config.json", text.encode())
        yield


def _lock(lock, workdir: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TcmError(f"another process trains in {workdir}; wait for its end, or give another --workdir") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _has_checkpoint(workdir: Path) -> bool:
    """Whether a run saved a checkpoint in its folder, readable or damaged; half-written ones have no number as name."""
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


def differing(workdir: Path, config: ml_collections.ConfigDict, names: Sequence[str]) -> list[str]:
    """Those of the fields `names` that `config` and the folder's config.json do not share; none without that file.

    Raises ConfigError if the file is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        return []
    try:
        before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(config.to_json_best_effort())
        for values in (before, now):  # a configuration of an earlier version lacks what was added since
            values["model"] = ModelConfig.from_dict(values["model"])
        return [name for name in names if before[name] != now[name]]
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise ConfigError(f"{path} is damaged; give another --workdir, or delete the file to go on") from error
