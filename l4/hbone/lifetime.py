"""No connection outlives the certificates with which it was made.

A little before the first of both expires, the peer is told to make a new connection (GOAWAY); when it expires, what is
left is cut. How much before varies: a certificate serves many connections, which should not all be made anew at once.

The wall clock decides, as it does about certificates. It may be set, so it is looked at once an hour at least.
"""

import asyncio
import time
from collections.abc import Callable
from random import random

_NOTICE_SHARE = 0.1
"""Of the time that is left in the beginning, at most."""
_LOOK_SECONDS = 3600.0


class Lifetime:
    """Calls `drain` before `expires_at`, and `cut` then. `notice_seconds` is how long before at most."""

    __slots__ = ("_cut", "_drain", "_expires_at", "_loop", "_notice_seconds", "_timer")

    def __init__(
        self, expires_at: float, notice_seconds: float, drain: Callable[[], None], cut: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._expires_at = expires_at
        self._notice_seconds = min(notice_seconds, _NOTICE_SHARE * (expires_at - time.time())) * (1 + random()) / 2
        self._drain: Callable[[], None] | None = drain
        self._cut = cut
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def end(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        left = self._expires_at - time.time()
        if left <= 0:
            self._cut()
            return
        if self._drain is not None and left <= self._notice_seconds:
            drain, self._drain = self._drain, None
            drain()
        pause = left if self._drain is None else left - self._notice_seconds
        self._timer = self._loop.call_later(min(pause, _LOOK_SECONDS), self._look)
