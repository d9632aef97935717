"""Memory pressure: shed load before the kernel kills the process.

    85 %  TIGHT      close idle connections to endpoints, return unused memory
    92 %  SCARCE     answer new requests with 503
    97 %  EXHAUSTED  reject new connections

A level ends 5 % below its start, so that it does not flicker. The limit is that of the cgroup (version 1 or 2), unless
the settings give one. Without a limit, memory is not watched.
"""

import asyncio
import logging
import resource
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

log = logging.getLogger(__name__)

_SECONDS = 1.0
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT = 1 << 60
"""cgroup version 1 expresses "no limit" as a very large number."""
_STATM = Path("/proc/self/statm")


class Level(IntEnum):
    CALM = 0
    TIGHT = 85
    SCARCE = 92
    EXHAUSTED = 97


_RELIEF = 5


def level_after(level: Level, used: int, limit: int) -> Level:
    """Return the new level when `used` of `limit` bytes are in use."""
    percent = 100 * used / limit
    reached = max(it for it in Level if percent >= it)
    if reached >= level or percent >= level - _RELIEF:
        return max(reached, level)
    return max(it for it in Level if it < level and (percent >= it - _RELIEF or it is Level.CALM))


def memory_limit(configured: int) -> int | None:
    """Return the limit in bytes: `configured`, or the cgroup's if that is 0. None without a limit."""
    if configured:
        return configured
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < _NO_LIMIT:
            return int(text)
    return None


def resident() -> int:
    """Bytes of memory in use by the process."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


def private() -> int:
    """Bytes of memory in use by the process without pages of files and of shared memory, which a cgroup counts once for
    all processes that run the same program."""
    _, in_use, shared, *_ = _STATM.read_text().split()
    return (int(in_use) - int(shared)) * resource.getpagesize()


async def watch(limit: Callable[[], int], changed: Callable[[Level], None], used: Callable[[], int] = resident) -> None:
    """Report each change of level, and every second while the level is not CALM. Runs until cancelled.

    `limit` and `used` return bytes, and are asked every second.
    """
    level = Level.CALM
    while True:
        await asyncio.sleep(_SECONDS)
        before, now_used, now_limit = level, used(), limit()
        level = level_after(level, now_used, now_limit)
        if level is not before:
            log.warning("memory level %s: %d of %d MiB in use", level.name.lower(), now_used >> 20, now_limit >> 20)
        if level is not Level.CALM or before is not Level.CALM:
            changed(level)
