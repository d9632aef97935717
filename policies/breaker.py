"""A circuit breaker for services that policies call, so that requests do not wait for a failing service.

After several consecutive failures, only one question per second is sent, until one is answered.
"""

MAX_OPEN = 1024
"""Maximum number of concurrent questions."""
_MAX_FAILURES = 5
_PAUSE_SECONDS = 1.0


class Breaker:
    """Times come from a monotonic clock."""

    __slots__ = ("_failures", "_open", "_paused_until")

    def __init__(self) -> None:
        self._open = 0
        self._failures = 0
        self._paused_until = 0.0

    def take(self, now: float) -> bool:
        """Whether the service may be called. Each allowed question ends with `release`."""
        if self._open >= MAX_OPEN:
            return False
        if self._failures >= _MAX_FAILURES:
            if now < self._paused_until:
                return False
            self._paused_until = now + _PAUSE_SECONDS
        self._open += 1
        return True

    def release(self) -> None:
        self._open -= 1

    def answered(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
