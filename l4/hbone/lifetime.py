"""End a connection before the certificates with which it was established expire.

Halfway to the end of the first of the two, the peer is asked to open a new connection (GOAWAY): both certificates have
been renewed by then. So a tunnel has a quarter of a certificate's life, whenever it begins. At expiry, the connection
is closed. The time of the notice varies, because one certificate serves many connections that should not all be
replaced at once. Expiry follows the wall clock, which may be adjusted; it is checked at least once an hour.
"""

import asyncio
import time
from collections.abc import Callable
from random import uniform

_NOTICE_SHARES = 0.4, 0.5
"""Notice, as a share of the time that is left at the start."""
_LOOK_SECONDS = 3600.0


class Lifetime:
    """Calls `drain` halfway to `expires_at`, and `cut` at `expires_at`."""

    __slots__ = ("_cut", "_drain", "_expires_at", "_loop", "_notice_seconds", "_timer")

    def __init__(self, expires_at: float, drain: Callable[[], None], cut: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expires_at = expires_at
        self._notice_seconds = (expires_at - time.time()) * uniform(*_NOTICE_SHARES)
        self._drain: Callable[[], None] | None = drain
        self._cut = cut
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def end(self) -> None:
        """Stop, because the connection has ended."""
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
