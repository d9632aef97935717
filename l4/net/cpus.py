"""How many CPUs a process may use."""

import os
from math import ceil
from pathlib import Path

_QUOTA_V2 = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1, _PERIOD_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable_cpus() -> int:
    """Return the number of CPUs that this process may run on, at most the cgroup's quota, rounded up."""
    quota = quota_of(_read(_QUOTA_V2) or f"{_read(_QUOTA_V1)} {_read(_PERIOD_V1)}")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, ceil(quota))) if quota is not None else cpus


def quota_of(text: str) -> float | None:
    """Return the CPUs of `QUOTA PERIOD` in microseconds, as in a cgroup's cpu.max. None if there is no limit."""
    try:
        quota, period = map(int, text.split())
    except ValueError:  # "max 100000", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
