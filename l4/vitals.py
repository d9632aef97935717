"""What an operator asks first about a process: since when it runs, and what it takes."""

import os
import platform
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

_STARTED = time.time()
_DESCRIPTORS = Path("/proc/self/fd")
_MEMORY = Path("/proc/self/statm")


def vitals() -> dict[str, object]:
    """Return plain values. What the system does not tell is None."""
    started = datetime.fromtimestamp(_STARTED, UTC)
    return {
        "python": platform.python_version(),
        "pid": os.getpid(),
        "host": platform.node(),
        "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "uptime_seconds": round(time.time() - _STARTED, 1),
        "memory_bytes": _memory_bytes(),
        "open_files": len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.exists() else None,
    }


def _memory_bytes() -> int:
    """Return the resident memory; where the system tells only its maximum, that."""
    if _MEMORY.exists():
        return int(_MEMORY.read_text().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
