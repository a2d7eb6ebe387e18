"""Locks that a forked process finds open."""

import os
import threading
import weakref
from typing import Any


def make_lock() -> Any:
    """A reentrant lock for `with` statements; a forked process finds it open, as it lacks the thread that held it.

    It is the interpreter's own: an interrupt within an `__enter__` of ours would leave it closed for other threads.
    """
    lock = threading.RLock()
    _every.add(lock)
    return lock


_every: weakref.WeakSet[Any] = weakref.WeakSet()


def _open_all() -> None:
    for lock in _every:
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
