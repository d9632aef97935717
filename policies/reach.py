"""Reachability of an endpoint, learned from recent connection attempts.

An unreachable endpoint is avoided: for one second at first, then twice as long each time, up to a minute. After the
pause, one trial connection is made while others still avoid the endpoint. If the trial succeeds, the endpoint is used
again; its history is forgotten once a connection is established. If that fails, the pause keeps growing. Balancers
prefer other endpoints, and use avoided ones if there are no others.
"""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
SLOW_SECONDS = 1.0
"""A connection attempt that takes longer counts as failed in the meantime, so that others do not wait for it."""


class Reach:
    """Reachability of one endpoint. `now` comes from a monotonic clock, in seconds."""

    __slots__ = ("_is_tried", "_pause", "_until")

    def __init__(self) -> None:
        self._pause = 0.0
        self._until: float | None = None
        self._is_tried = False

    @property
    def is_avoided(self) -> bool:
        """Whether other endpoints are preferred now."""
        return self._until is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether a failure has been recorded since the last connection."""
        return self._pause > 0

    def failed(self, now: float) -> bool:
        """Record a connection that failed or takes too long. Returns whether the endpoint was not avoided before.

        Attempts that started together count as one failure.
        """
        if self._until is not None and not self._is_tried:
            return False
        was_avoided = self._until is not None
        self._pause = min(2 * self._pause, LONGEST_PAUSE) or FIRST_PAUSE
        self._until = now + self._pause
        self._is_tried = False
        return not was_avoided

    def reached(self) -> bool:
        """Record an established connection. Returns whether the endpoint was avoided before."""
        was_avoided = self._until is not None
        self._pause = 0.0
        self._until = None
        self._is_tried = False
        return was_avoided

    def take_trial(self, now: float) -> bool:
        """Whether the caller must make a trial connection now, and then call `failed` or `passed`."""
        if self._until is None or self._is_tried or now < self._until:
            return False
        self._is_tried = True
        return True

    def passed(self) -> bool:
        """Record a successful trial. Returns whether the endpoint was avoided until now."""
        was_avoided = self._until is not None
        self._until = None
        self._is_tried = False
        return was_avoided
