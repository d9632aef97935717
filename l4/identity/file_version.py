"""Detect changes of a file by stat. inotify is not used, because it misses changes on network file systems."""

import os
from pathlib import Path

Version = tuple[int, int, int] | None
"""Version of a file; None while it cannot be accessed."""


def version_of(path: Path | str) -> Version:
    """Return a value that changes when the file is written or replaced."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
