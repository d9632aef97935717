"""How near the process is to its memory limit, so that it sheds load before the kernel kills it.

    85 %  TIGHT      idle connections to endpoints are closed, what is unused goes back to the system
    92 %  SCARCE     new requests are answered 503
    97 %  EXHAUSTED  new connections are turned away

A level is left again 5 % below where it began, so that it doesn't flicker. The limit is that of the cgroup (of either
version) unless the settings name one; without any, nothing is watched.
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
"""cgroup version 1 has no word for it, but a number that nobody reaches."""
_STATM = Path("/proc/self/statm")


class Level(IntEnum):
    CALM = 0
    TIGHT = 85
    SCARCE = 92
    EXHAUSTED = 97


_RELIEF = 5


def level_after(level: Level, used: int, limit: int) -> Level:
    """The level once `used` of `limit` bytes are taken."""
    percent = 100 * used / limit
    reached = max(it for it in Level if percent >= it)
    if reached >= level or percent >= level - _RELIEF:
        return max(reached, level)
    return max(it for it in Level if it < level and (percent >= it - _RELIEF or it is Level.CALM))


def memory_limit(configured: int) -> int | None:
    """Bytes: the `configured`, or, when that is 0, the cgroup's; None without any."""
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
    """Bytes of memory that the process has in use."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


async def watch(limit: int, changed: Callable[[Level], None], used: Callable[[], int] = resident) -> None:
    """Tell of each change of the level, and of the level again each second while it isn't calm; until cancelled."""
    level = Level.CALM
    while True:
        await asyncio.sleep(_SECONDS)
        before, now_used = level, used()
        level = level_after(level, now_used, limit)
        if level is not before:
            log.warning("memory is %s: %d of %d MiB are in use", level.name.lower(), now_used >> 20, limit >> 20)
        if level is not Level.CALM or before is not Level.CALM:
            changed(level)
