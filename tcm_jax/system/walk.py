"""The one walk through a folder: what `tcm`, training and evaluation find in it."""

import dataclasses
import os
import stat
from pathlib import Path, PurePath

DEVICE = "a device"
_SPECIAL = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: DEVICE, stat.S_IFBLK: DEVICE}


@dataclasses.dataclass
class Found:
    """What a walk found.

    Attributes:
        files: files with the wanted endings, and links with such an ending, sorted.
        special: (path, what it is) of what has such an ending and is no file: FIFOs, sockets, devices.
        unreadable: (path, why) of folders that cannot be listed.
    """

    files: list[Path] = dataclasses.field(default_factory=list)
    special: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    unreadable: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def walk(root: Path, suffixes: frozenset[str]) -> Found:
    """Files below `root` that end in one of `suffixes` (lower case, with dot).

    Hidden files and folders (".name") are left out, but for `root` itself.

    Links to folders are followed, but no folder is entered twice, by whatever name: loops end, and what is also there
    without a link has its own name.
    """
    found, entered = Found(), set[tuple[int, int]]()
    folders: list[Path] = [root]
    links: list[Path] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in entered:
                continue
            entered.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            found.unreadable.append((str(folder), error.strerror or str(error)))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            wanted = path.suffix.lower() in suffixes
            try:
                mode = entry.stat().st_mode
            except OSError as error:  # a link that leads nowhere; who reads it will say so
                if wanted:
                    found.files.append(path)
                elif isinstance(error, PermissionError):
                    found.unreadable.append((str(path), error.strerror or str(error)))
                continue
            if stat.S_ISDIR(mode):
                (links if entry.is_symlink() else folders).append(path)
            elif wanted and stat.S_ISREG(mode):
                found.files.append(path)
            elif wanted:
                found.special.append((str(path), special_kind(mode) or "no file"))
    found.files.sort()
    return found


def is_hidden(path: PurePath) -> bool:
    """Whether a relative path is one of a hidden file, or leads through a hidden folder."""
    return any(part.startswith(".") and part != ".." for part in path.parts)


def special_kind(mode: int) -> str | None:
    """ "a FIFO", "a socket" or DEVICE by `st_mode`; None for files and folders."""
    return _SPECIAL.get(stat.S_IFMT(mode))
