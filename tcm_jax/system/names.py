"""Names of files, and messages with names in them, as text that every stream and every file takes.

A name may hold bytes that are no text (Python has them as surrogates), characters that a terminal's encoding lacks, and
line breaks. JSON (`json.dumps`) holds each of them so that `json.loads` gives the same name back; all other text is
made here.
"""

import re
from pathlib import Path
from typing import TextIO

from tcm_jax.errors import ConfigError

_NO_TEXT = re.compile("[\ud800-\udfff]")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # these would also leave their line


def printable(text: object, encoding: str | None = None) -> str:
    r"""One line of `text` in characters of `encoding` (UTF-8 if None), any others by their codes: \xff, \n, \u732b."""
    encoding = encoding or "utf-8"
    return _UNPRINTABLE.sub(_code, str(text)).encode(encoding, "backslashreplace").decode(encoding)


def encoded(text: str) -> bytes:
    r"""The UTF-8 of a whole text file; bytes that are no text by their codes: \xff."""
    return _NO_TEXT.sub(_code, text).encode()


def say(text: object, stream: TextIO | None) -> None:
    """Prints one line on `stream` at once; nothing where that is closed, as Python makes it None.

    Raises OSError where the line cannot be written: a full disk, a reader that has left.
    """
    if stream is not None:
        print(printable(text, getattr(stream, "encoding", None)), file=stream, flush=True)


def file_name(text: str) -> str:
    """`text`, which names a file or a folder. Raises ConfigError for an empty one."""
    if not text:
        raise ConfigError("the name of a file is empty; a variable of the shell may be unset")
    return text


def file_path(text: str) -> Path:
    """The path of a name. Raises ConfigError for an empty one, which would be the current folder."""
    return Path(file_name(text))


def _code(match: re.Match) -> str:
    number = ord(match[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else ascii(match[0])[1:-1]
