"""Whether an endpoint can be reached, by how the last attempts to connect to it ended.

One that can't is left alone: for a second at first, twice as long each time, up to a minute. Then it is tried once,
while everybody else still leaves it alone. One that got through on trial is used again, and what is known of it is
forgotten when a connection stands; if the trial was deceptive, the pause goes on to grow. Whoever chooses endpoints
prefers the others, and takes these when there are no others.
"""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
SLOW_SECONDS = 1.0
"""Who has not answered a connection for so long counts as failed meanwhile, so that nobody else waits for it, too."""


class Reach:
    """`is_avoided`: others are better now. `now` is any clock that never goes back, in seconds."""

    __slots__ = ("_is_tried", "_pause", "_until")

    def __init__(self) -> None:
        self._pause = 0.0
        self._until: float | None = None
        self._is_tried = False

    @property
    def is_avoided(self) -> bool:
        return self._until is not None

    @property
    def is_doubtful(self) -> bool:
        """Something is known of it."""
        return self._pause > 0

    def failed(self, now: float) -> bool:
        """A connection could not be made, or takes too long; whether that is news. Those that began together are one
        failure."""
        if self._until is not None and not self._is_tried:
            return False
        was_avoided = self._until is not None
        self._pause = min(2 * self._pause, LONGEST_PAUSE) or FIRST_PAUSE
        self._until = now + self._pause
        self._is_tried = False
        return not was_avoided

    def reached(self) -> bool:
        """A connection stands; whether it was avoided before."""
        was_avoided = self._until is not None
        self._pause = 0.0
        self._until = None
        self._is_tried = False
        return was_avoided

    def take_trial(self, now: float) -> bool:
        """Whether it is to be tried now; the caller does, and says `failed` or `passed`."""
        if self._until is None or self._is_tried or now < self._until:
            return False
        self._is_tried = True
        return True

    def passed(self) -> bool:
        """The trial got through; whether it is avoided no more by that."""
        was_avoided = self._until is not None
        self._until = None
        self._is_tried = False
        return was_avoided
