"""Many concurrent time limits, nearly none of which expires.

One event loop timer for each would dominate the cost. Limits of the same duration expire in the order of their start,
so one timer per duration, for the oldest limit, is enough.
"""

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)

_TIMER_SECONDS = 0.001
"""Event loop timers may fire this much too early."""


class Late(Protocol):
    def timed_out(self) -> None: ...


class _Queue:
    """Limits of one duration, in the order in which they expire."""

    __slots__ = ("due", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.due: dict[Late, float] = {}
        self.timer = timer


class Deadlines:
    """Keeps no reference to ended limits, and no timer if there are none."""

    __slots__ = ("_loop", "_queues")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, _Queue] = {}

    def begin(self, who: Late, seconds: float) -> None:
        """Call `who.timed_out()` after `seconds`, unless `end` is called with the same duration before."""
        due = self._loop.time() + seconds
        queue: _Queue | None = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = _Queue(self._loop.call_at(due, self._fire, seconds))
        queue.due[who] = due

    def end(self, who: Late, seconds: float) -> None:
        queue: _Queue | None = self._queues.get(seconds)
        if queue is None or queue.due.pop(who, None) is None:
            return
        if not queue.due:
            queue.timer.cancel()
            del self._queues[seconds]

    def _fire(self, seconds: float) -> None:
        queue: _Queue = self._queues[seconds]
        now = self._loop.time() + _TIMER_SECONDS
        late = []
        for who, due in queue.due.items():
            if due > now:
                queue.timer = self._loop.call_at(due, self._fire, seconds)
                break
            late.append(who)
        else:
            del self._queues[seconds]
        for who in late:
            del queue.due[who]
        for who in late:
            try:
                who.timed_out()
            except Exception:  # the other limits have expired all the same
                log.exception("handling of an expired deadline failed")
