"""What our entry points do with their process, and a library must not: standard streams, signals, the exit status."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, BinaryIO

from tcm_jax.errors import TcmError
from tcm_jax.system.names import say

FAILED, INTERRUPTED, READER_LEFT = 1, 130, 141
_STREAMS = {"stdin": "standard input", "stdout": "standard output", "stderr": "standard error"}
_closed: set[str] = set()  # of the standard streams, when the program began


def prepare() -> None:
    """Called once by every program of ours, first: afterwards every stream exists and prints whatever it is given.

    SIGTERM and SIGHUP end it as Ctrl-C does, so that what is half done is taken away; not if they were ignored before.
    Each of them is an exception, which Python drops where it meets a finalizer or a callback of the garbage collector
    (JAX has one): it is sent again.
    """
    _open_closed_streams()
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")  # of libraries, too
    sys.unraisablehook = _send_again
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def _open_closed_streams() -> None:
    """Opens closed streams. Else the next opened files got their numbers, and what C code prints would go into them."""
    for number, name in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            _closed.add(name)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _stop(number: int, frame: FrameType | None) -> None:
    """Raises what ends the program; within an import later, as C++ there may abort, crash or go on."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _send_later(number)
            return
        frame = frame.f_back
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _send_again(dropped: Any) -> None:
    """Sends a signal again whose exception Python dropped; serves as `sys.unraisablehook`."""
    if isinstance(dropped.exc_value, KeyboardInterrupt):
        number: int = signal.SIGINT
    elif isinstance(dropped.exc_value, SystemExit) and isinstance(dropped.exc_value.code, int):
        number = dropped.exc_value.code - 128
    else:
        sys.__unraisablehook__(dropped)
        return
    _send_later(number)


def _send_later(number: int) -> None:
    """Sends a signal again, once a callback or an import may have ended."""
    timer = threading.Timer(0.05, _interrupt_main, [number])
    timer.daemon = True
    timer.start()


def _interrupt_main(number: int) -> None:
    """Sends the main thread a signal, also while it waits for something."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        interrupt: Any = _thread.interrupt_main  # typed for `Signals` alone
        interrupt(number)


def standard(name: str) -> BinaryIO:
    """The bytes of `stdin` or `stdout`. Raises TcmError if the program was begun without it."""
    stream = getattr(sys, name)
    if stream is None or name in _closed:
        raise TcmError(f"{_STREAMS[name]} is closed")
    return stream.buffer


def outcome(work: Callable[[], Any]) -> int:
    """The exit status of `work()`, which is what it returns if that is a number; an error is one line on stderr."""
    try:
        status = work()
        _flush(sys.stdout)
    except TcmError as error:
        return _failed(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return READER_LEFT
    except OSError as error:  # none of ours, but of what is around: a full disk, too many open files, no folder
        where = f": {error.filename}" if error.filename is not None else ""
        return _failed(f"TcmError: {error.strerror or error}{where}")
    except MemoryError:
        return _failed("TcmError: not enough memory")
    except ValueError as error:
        if not _is_of_jax_settings(error):
            raise
        return _failed(f"ConfigError: JAX does not start: {error}")
    finally:
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)
    return status if isinstance(status, int) else 0


def _is_of_jax_settings(error: ValueError) -> bool:
    """Whether JAX, as it was imported, refused a variable of the environment, such as JAX_ENABLE_X64=maybe."""
    trace, frames = error.__traceback__, []
    while trace is not None:
        code, trace = trace.tb_frame.f_code, trace.tb_next
        frames.append((code.co_filename.replace(os.sep, "/"), code.co_name))
    imported = any(file.endswith("/jax/__init__.py") and name == "<module>" for file, name in frames)
    return imported and frames[-1][0].endswith("/jax/_src/config.py")


def _failed(message: str) -> int:
    with contextlib.suppress(OSError):
        say(message, sys.stderr)
    return FAILED


def _flush(stream: Any) -> None:
    if stream is not None:
        stream.flush()


def _let_go(stream: Any) -> None:
    """Empties a stream that cannot be written: Python would complain once more when it flushes it at exit."""
    try:
        _flush(stream)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def end(status: int) -> None:
    """Ends the process at once: no thread is waited for but who writes a file, and JAX is not taken apart."""
    from tcm_jax.system.files import writing

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # whoever asks twice does not want to wait
    with writing:  # whoever writes a file now finishes it, or takes it away again
        os._exit(status)
