"""Locks that a forked process finds open."""

import os
import threading
import weakref


class Lock:
    """A reentrant lock for `with` statements; a forked process has a new one, as it lacks the thread that held it."""

    def __init__(self):
        self._lock = threading.RLock()
        _every.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_every: weakref.WeakSet[Lock] = weakref.WeakSet()


def _renew() -> None:
    for lock in _every:
        lock._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
