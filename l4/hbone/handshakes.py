"""Active TLS handshakes, and which of them to end when there are too many.

A client that connects and sends nothing occupies a place for `handshake_seconds`; a few hundred occupy all places. If
one address holds more than its share, its stalled handshakes are ended. This does not affect a rush of honest clients:
they come from many addresses, and wait in the kernel's backlog.
"""

import asyncio
from collections import Counter

STALLED_SECONDS = 1.0
_SHARE = 8
"""One address may hold 1/8 of the places for the full `handshake_seconds`."""


class Handshakes:
    """At most `most` handshakes."""

    __slots__ = ("_most", "_under_way")

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: dict[asyncio.Task[None], tuple[str, float]] = {}  # client address and start time, oldest first

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return list(self._under_way)

    @property
    def are_many(self) -> bool:
        return len(self._under_way) >= self._most // 2

    @property
    def are_too_many(self) -> bool:
        return len(self._under_way) >= self._most

    def begin(self, task: asyncio.Task[None], ip: str, now: float) -> None:
        self._under_way[task] = ip, now

    def end(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)

    def stalled(self, now: float) -> list[asyncio.Task[None]]:
        """Return the handshakes to end in favor of others."""
        if not self.are_too_many:
            return []
        [(greedy, held)] = Counter(ip for ip, _ in self._under_way.values()).most_common(1)
        surplus = held - max(self._most // _SHARE, 1)
        own = (task for task, (ip, since) in self._under_way.items() if ip == greedy and now - since >= STALLED_SECONDS)
        return [task for task, _ in zip(own, range(surplus), strict=False)]
