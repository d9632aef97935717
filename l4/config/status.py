"""What a path is, and whether its content may be another one than before: one look at its status."""

import os
import stat
from enum import Enum, auto
from pathlib import Path

Version = tuple[int, ...]
"""Differs whenever a file's content may differ."""


class Kind(Enum):
    FOLDER = auto()
    FILE = auto()
    OTHER = auto()
    GONE = auto()
    UNKNOWN = auto()


def kind_of(path: Path) -> Kind:
    return look(path)[0]


def version_of(path: Path | str) -> Version:
    """Told by `stat`, because inotify misses what network file systems do. Differs after a write, after a rename over
    the file, and when the file can no longer be looked at."""
    return look(path)[1]


def look(path: Path | str) -> tuple[Kind, Version]:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        return Kind.GONE, (error.errno or 0,)
    except OSError as error:
        return Kind.UNKNOWN, (error.errno or 0,)
    version = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
    if stat.S_ISDIR(status.st_mode):
        return Kind.FOLDER, version
    return Kind.FILE if stat.S_ISREG(status.st_mode) else Kind.OTHER, version
