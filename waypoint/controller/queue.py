"""The queue of objects to look at: each is in it once, and comes again after a pause when it failed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 60.0


class Queue(Generic[K]):
    """Bounded by the number of keys. `next` gives a key to one worker at a time."""

    def __init__(self) -> None:
        self._waiting: dict[K, None] = {}
        self._taken: set[K] = set()
        self._pauses: dict[K, float] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._is_changed = asyncio.Event()

    def add(self, key: K) -> None:
        self._waiting[key] = None
        self._is_changed.set()

    @asynccontextmanager
    async def next(self) -> AsyncIterator[K]:
        """The key that waits longest; it may be added again meanwhile."""
        key = await self._take()
        self._taken.add(key)
        try:
            yield key
        finally:
            self._taken.discard(key)
            self._is_changed.set()

    def well(self, key: K) -> None:
        """Forget failures."""
        self._pauses.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def failed(self, key: K) -> float:
        """Look again after a pause, which is returned."""
        pause = self._pauses.get(key, FIRST_PAUSE_SECONDS)
        self._pauses[key] = min(2 * pause, MAX_PAUSE_SECONDS)
        self.later(key, pause)
        return pause

    def later(self, key: K, seconds: float) -> None:
        """Look after a time, and only then."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.add, key)

    async def _take(self) -> K:
        while True:
            key = next((it for it in self._waiting if it not in self._taken), None)
            if key is not None:
                del self._waiting[key]
                return key
            self._is_changed.clear()
            await self._is_changed.wait()
