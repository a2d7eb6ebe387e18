"""The kernels called on NumPy's arrays as XLA's custom calls call them, without XLA, on threads of our own."""

import _thread
import contextlib
import ctypes
import dataclasses
import functools
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tcm_jax.ops.kernels.frame import COMMON_ATTRIBUTES, Args, Attrs, Board, Buffer, CallFrame, Job, Rets, Scalar
from tcm_jax.system import cores

_WORD = 8  # bytes
_ALONE = 1 << 18  # bytes of a call's arrays up to which one thread is done before another has begun
_NOBODY = Board()  # on which small jobs are put: nobody looks at it

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Frame:
    """A call of a kernel but for its arrays: shapes of float32, and attributes as `calls.call` gives them to XLA."""

    arguments: tuple[Shape, ...]
    results: tuple[Shape, ...]
    attributes: tuple[tuple[str, int], ...]

    @functools.cached_property
    def common(self) -> tuple[int, ...]:
        """(number of the kernel, parts, parts of the kernel before it, bytes of scratch memory)."""
        attributes = dict(self.attributes)
        return tuple(attributes[name] for name in COMMON_ATTRIBUTES)

    @functools.cached_property
    def large(self) -> bool:
        """Whether several threads are quicker than one."""
        return 4 * sum(map(math.prod, (*self.arguments, *self.results))) > _ALONE

    @functools.cached_property
    def layout(self) -> tuple[np.ndarray, list[int], list[int]]:
        """The call in int64 words as C reads it; where addresses are that count from its start, and those of arrays."""
        layout = _Layout()
        layout.table(CallFrame.args.offset + Args.args.offset, [layout.buffer(shape) for shape in self.arguments])
        layout.table(CallFrame.rets.offset + Rets.rets.offset, [layout.buffer(shape) for shape in self.results])
        scalars = [layout.scalar(value) for _, value in sorted(self.attributes)]
        layout.table(CallFrame.attrs.offset + Attrs.attrs.offset, scalars)
        return np.array(layout.words, np.int64), layout.pointers, layout.arrays


class _Layout:
    """A call frame in the making."""

    def __init__(self):
        self.words = [0] * (ctypes.sizeof(CallFrame) // _WORD)
        self.pointers: list[int] = []
        self.arrays: list[int] = []

    def table(self, offset: int, structures: list[int]) -> None:
        """A list of structures, to which the frame points at an offset."""
        first = len(self.words)
        self._point(offset // _WORD, first)
        self.words += [0] * len(structures)
        for place, structure in enumerate(structures, first):
            self._point(place, structure)

    def buffer(self, shape: Shape) -> int:
        """An array's structure, without its address."""
        structure = self._structure(Buffer)
        self.arrays.append(structure + Buffer.data.offset // _WORD)
        self._point(structure + Buffer.dims.offset // _WORD, len(self.words))
        self.words += shape
        return structure

    def scalar(self, value: int) -> int:
        """An attribute's structure."""
        structure = self._structure(Scalar)
        self._point(structure + Scalar.value.offset // _WORD, len(self.words))
        self.words.append(value)
        return structure

    def _structure(self, kind: Any) -> int:
        start = len(self.words)
        self.words += [0] * (ctypes.sizeof(kind) // _WORD)
        return start

    def _point(self, place: int, to: int) -> None:
        self.words[place] = _WORD * to
        self.pointers.append(place)


def call(*arguments: np.ndarray, frame: Frame) -> list[np.ndarray]:
    """The results of a kernel, float32; the arguments are float32 too, of as many values as the frame's have."""
    arrays = [np.ascontiguousarray(array) for array in arguments]
    arrays += [np.empty(shape, np.float32) for shape in frame.results]
    (template, pointers, places), (kernel, parts, prepare, scratch) = frame.layout, frame.common
    words = template.copy()
    words[pointers] += _address(words)
    words[places] = [_address(array) for array in arrays]
    if prepare:
        _run(kernel - 1, prepare, scratch, words, frame.large)
    _run(kernel, parts, scratch, words, frame.large)
    return arrays[len(arguments) :]


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _run(kernel: int, parts: int, scratch: int, words: np.ndarray, large: bool) -> None:
    """Has all parts of a call done, if it is a large one with the help of this thread's team, and waits for them."""
    job = Job(parts=parts, frame=_address(words), kernel=_table()[kernel], scratch=scratch)
    team = getattr(_this_thread, "team", None) if large and parts > 1 else None
    board = team.board_with(job) if team else _NOBODY
    _c_function("lead")(ctypes.addressof(board), ctypes.addressof(job))


class _Team:
    """Threads that help one thread with the calls that it makes within `helped`."""

    def __init__(self):
        self._board, self._jobs = Board(open=1), []
        self._helpers: list[None] = []  # an entry for each that was asked and is not done

    def board_with(self, job: Job) -> Board:
        """The board at which helpers look for jobs; one that is late still looks at this one."""
        most = cores.available() // max(len(_teams), 1) - 1  # two pictures on two cores: nobody waits for another
        if most < 1:
            return _NOBODY
        self._jobs.append(job)
        while len(self._helpers) < min(most, _pool.size()):
            self._helpers.append(None)
            _pool.teams.put(self)
        return self._board

    def help(self) -> None:
        """Does parts of jobs on the board, as one of the helpers, until none has come for a while."""
        _c_function("serve")(ctypes.addressof(self._board))
        self._helpers.pop()

    def close(self) -> None:
        """Sends the helpers home."""
        self._board.open = 0


class _Pool:
    """Threads that wait for teams to help; no interrupt leaves a lock behind, as it may in the standard library's."""

    def __init__(self):
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets all threads."""
        self.teams: queue.SimpleQueue[_Team] = queue.SimpleQueue()
        self._threads: list[int] = []

    def size(self) -> int:
        """How many threads there are: as many as cores, begun at the first call, where they can be had."""
        with contextlib.suppress(RuntimeError):  # no more threads, or an interpreter that ends: leaders do all
            while len(self._threads) < cores.available():
                self._threads.append(_thread.start_new_thread(_help, (self.teams,)))
        return len(self._threads)


def _help(teams: "queue.SimpleQueue[_Team]") -> None:
    while True:
        teams.get().help()


_this_thread = threading.local()
_pool = _Pool()
_teams: set[_Team] = set()  # of all threads


@contextlib.contextmanager
def helped() -> Iterator[None]:
    """This thread's large calls within are shared with others: as many as cores, of which each such thread has some."""
    before, team = getattr(_this_thread, "team", None), _Team()
    try:  # an interrupt may come after each call
        _this_thread.team = team
        _teams.add(team)
        yield
    finally:
        _teams.discard(team)
        _this_thread.team = before
        team.close()


# Imported where kernels are called: where that fails, `kernels.available` says that there are none.
@functools.cache
def _table() -> Any:
    """The addresses of the kernels by their numbers."""
    from tcm_jax.ops.kernels import handlers

    return handlers.table()


@functools.cache
def _c_function(name: str) -> Callable[..., int]:
    """A function of pool.py."""
    from tcm_jax.ops.kernels import handlers

    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * handlers.POOL[name])
    return kind(handlers.address_in_pool(name))


def _forget_threads() -> None:
    """In a forked process, in which they do not live on."""
    _pool.begin_anew()
    _teams.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
