"""Whether a file is still the one that was read: told by stat, because inotify misses what network file systems do."""

import os
from pathlib import Path

Version = tuple[int, int, int] | None
"""Of a file; None while it can't be looked at."""


def version_of(path: Path | str) -> Version:
    """Differs after a rename over the file, and after a write."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
