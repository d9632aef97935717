"""The type of a path, and a version that shows whether its content may have changed: one look at its status."""

import os
import stat
from enum import Enum, auto
from pathlib import Path

Version = tuple[int, ...]
"""Changes whenever a file's content may have changed."""


class Kind(Enum):
    FOLDER = auto()
    FILE = auto()
    OTHER = auto()
    GONE = auto()
    UNKNOWN = auto()


def kind_of(path: Path) -> Kind:
    return look(path)[0]


def version_of(path: Path | str) -> Version:
    """Return the version of a path, from `stat`, because inotify misses changes on network file systems.

    It changes after a write, after a rename over the file, and when the file becomes inaccessible.
    """
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
