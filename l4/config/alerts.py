"""When to look at files, and where: where the kernel tells of a change, and everywhere now and then.

As long as inotify has told of every change that looking everywhere found, looking everywhere is a safety net that is
needed seldom. Once something was found that inotify did not tell of, as on a network's volume, it is done at each poll.
"""

import asyncio
from collections.abc import Callable, Collection

from l4.config.notices import Notices, Told

ANYTHING = Told(is_all=False)
_SELDOM = 8
"""In polls: how often to look everywhere while inotify is enough."""


class Alerts:
    """`open_notices` gives None where there is no inotify."""

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
    def is_listening(self) -> bool:
        return self._notices is not None

    @property
    def is_enough(self) -> bool:
        """Whether all that changes will be told."""
        return self._is_complete and not self._has_missed

    async def next(self, *, is_pressing: bool) -> Told:
        """Where to look next, when it is time. `is_pressing`: something must be looked at again soon, changed or
        not."""
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
        """What was told by now."""
        told = self._notices.take() if self._notices is not None else Told()
        found = Told(told.paths | self._put_back.paths, told.is_all and self._put_back.is_all)
        self._put_back = Told()
        return found

    def put_back(self, told: Told) -> None:
        """Tell it again, the next time."""
        self._put_back = Told(told.paths | self._put_back.paths, told.is_all and self._put_back.is_all)

    def looked(self, folders: Collection[str], surprises: Collection[str]) -> bool:
        """One has looked everywhere, and found these folders, and these files that were others than before without
        having been told. Whether to look again, because folders are listened to only from now on."""
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
