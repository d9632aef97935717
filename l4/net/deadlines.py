"""Time limits of many things at once, nearly none of which is ever reached.

A timer of the loop for each of them would cost more than anything else about them. Those that have the same number of
seconds end in the order in which they began, so one timer, for the oldest that is left, serves them all.
"""

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)

_TIMER_SECONDS = 0.001
"""A loop's timers may fire so much too early."""


class Late(Protocol):
    def timed_out(self) -> None: ...


class _Queue:
    """Those with the same number of seconds; `due` is in the order in which they end."""

    __slots__ = ("due", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.due: dict[Late, float] = {}
        self.timer = timer


class Deadlines:
    """Keeps nothing of whoever has ended, and no timer when nobody is left."""

    __slots__ = ("_loop", "_queues")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, _Queue] = {}

    def begin(self, who: Late, seconds: float) -> None:
        """`who.timed_out()` is called then, unless `end` is, with the same number, before."""
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
            except Exception:  # the others' time is over all the same
                log.exception("a deadline could not be kept")
