"""Many concurrent time limits, nearly none of which expires.

One event loop timer for each would dominate the cost. Limits of the same duration expire in the order of their start,
so one timer per duration, for the oldest limit, is enough.
"""

import asyncio
import logging
from asyncio import current_task
from typing import Protocol

log = logging.getLogger(__name__)

_TIMER_SECONDS = 0.001
"""Event loop timers may fire this much too early."""
_KEPT_TIMERS = 8
"""A timer without limits is kept for the next limit of its duration, which saves a quiet connection a timer per
request. Clients choose durations, so their number is bounded."""


class Late(Protocol):
    def timed_out(self) -> None: ...


class _Queue:
    """Limits of one duration, in the order in which they expire."""

    __slots__ = ("due", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.due: dict[Late, float] = {}
        self.timer = timer


class Deadlines:
    """Keeps no reference to ended limits, and few timers if there are none."""

    __slots__ = ("_queues", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queues: dict[float, _Queue] = {}

    def begin(self, who: Late, seconds: float) -> None:
        """Call `who.timed_out()` after `seconds`, unless `end` is called with the same duration before."""
        due = self.loop.time() + seconds
        queue: _Queue | None = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = _Queue(self.loop.call_at(due, self._fire, seconds))
        queue.due[who] = due

    def end(self, who: Late, seconds: float) -> None:
        queue: _Queue | None = self._queues.get(seconds)
        if queue is None or queue.due.pop(who, None) is None:
            return
        if not queue.due and len(self._queues) > _KEPT_TIMERS:
            queue.timer.cancel()
            del self._queues[seconds]

    def limit(self, seconds: float) -> "Limit":
        """Return a time limit for what the current task does in a `with` block."""
        return Limit(self, seconds)

    def _fire(self, seconds: float) -> None:
        queue: _Queue = self._queues[seconds]
        now = self.loop.time() + _TIMER_SECONDS
        late = []
        for who, due in queue.due.items():
            if due > now:
                queue.timer = self.loop.call_at(due, self._fire, seconds)
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


class Limit:
    """Cancels what the current task does in a `with` block after a time, and raises TimeoutError, as `asyncio.timeout`
    does."""

    __slots__ = ("_cancelling", "_deadlines", "_is_late", "_seconds", "_task")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._is_late = False

    def __enter__(self) -> None:
        task = current_task(self._deadlines.loop)
        if task is None:
            raise RuntimeError("a time limit is for what a task does")
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.begin(self, self._seconds)

    def timed_out(self) -> None:
        self._is_late = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._deadlines.end(self, self._seconds)
        if self._is_late and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
