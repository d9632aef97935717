"""When and where to look at files: where inotify reports a change, and everywhere from time to time.

While inotify has reported every change that a full look found, full looks are only a safety net and are rare. Once a
full look finds a change that inotify did not report, as on a network volume, every poll is a full look.
"""

import asyncio
from collections.abc import Callable, Collection

from l4.config.notices import Notices, Told

ANYTHING = Told(is_all=False)
_SELDOM = 8
"""In polls: how often to look everywhere while inotify is enough."""


class Alerts:
    """Decides where to look next. `open_notices` returns None where there is no inotify."""

    def __init__(self, poll_seconds: float, open_notices: Callable[[], Notices | None] = Notices.open) -> None:
        self._poll_seconds = poll_seconds
        self._notices = open_notices()
        self._is_complete = False
        self._has_missed = False
        self._put_back = Told()
        self._loop = asyncio.get_running_loop()
        self._looked_at = float("-inf")

    def close(self) -> None:
        if self._notices is not None:
            self._notices.close()

    @property
    def is_enough(self) -> bool:
        """Whether inotify reports all changes."""
        return self._is_complete and not self._has_missed

    async def next(self, *, is_pressing: bool) -> Told:
        """Wait until it is time to look, and return where. `is_pressing`: something must be looked at again soon, even
        if it has not changed."""
        polls = _SELDOM if self.is_enough and not is_pressing else 1
        seconds = self._looked_at + polls * self._poll_seconds - self._loop.time()
        if seconds <= 0:
            return ANYTHING
        if self._notices is None:
            await asyncio.sleep(seconds)
            return ANYTHING
        is_told = bool(self._put_back) or await self._notices.wait(seconds)
        return self.take() if is_told else ANYTHING

    def take(self) -> Told:
        """Return the changes reported so far."""
        told = self._notices.take() if self._notices is not None else Told()
        found = Told(told.paths | self._put_back.paths, told.is_all and self._put_back.is_all)
        self._put_back = Told()
        return found

    def put_back(self, told: Told) -> None:
        """Report `told` again with the next changes."""
        self._put_back = Told(told.paths | self._put_back.paths, told.is_all and self._put_back.is_all)

    def looked(self, folders: Collection[str], surprises: Collection[str]) -> bool:
        """Report a full look. It found `folders`, and in `surprises` the files that changed without a report.

        Returns whether to look again, because some folders are watched only from now on.
        """
        self._looked_at = self._loop.time()
        if self._notices is None:
            return False
        told = self._notices.take()
        if self._is_complete and told.is_all and not told.paths.issuperset(surprises):
            self._has_missed = True
        self.put_back(told)  # it may have come after the look
        was_followed = self._notices.follow(folders)
        self._is_complete = self._notices.is_on_each
        return self._is_complete and not was_followed
