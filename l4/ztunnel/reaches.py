"""Unreachable addresses, remembered for a limited time and in limited number.

Client connections are never used as trials: when a client would have used an avoided address, the ztunnel opens a
connection of its own to test it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

from l4.net.network import Network
from l4.net.trial import accepts
from policies.reach import SLOW_SECONDS, Reach

MAX_REMEMBERED = 4096

Address = tuple[str, int]
Spawn = Callable[[Coroutine[None, None, None]], object]


class Reaches:
    """`trial_seconds` limits the duration of a trial connection."""

    __slots__ = ("_reaches", "_spawn", "_trial_seconds")

    def __init__(self, spawn: Spawn, trial_seconds: float) -> None:
        self._spawn = spawn
        self._trial_seconds = trial_seconds
        self._reaches: dict[Address, Reach] = {}

    def __len__(self) -> int:
        return len(self._reaches)

    def is_avoided(self, address: Address, network: Network | None = None) -> bool:
        """Whether to avoid the address. `network` is where a trial connection is opened."""
        reach = self._reaches.get(address)
        if reach is None or not reach.is_avoided:
            return False
        if reach.take_trial(asyncio.get_running_loop().time()):
            self._spawn(self._try(address, reach, network))
        return True

    def failed(self, address: Address) -> None:
        reach = self._reaches.pop(address, None) or Reach()
        self._reaches[address] = reach
        reach.failed(asyncio.get_running_loop().time())
        if len(self._reaches) > MAX_REMEMBERED:
            del self._reaches[next(iter(self._reaches))]

    def reached(self, address: Address) -> None:
        self._reaches.pop(address, None)

    @contextmanager
    def connecting(self, address: Address) -> Iterator[None]:
        """Surrounds a connection attempt. A slow attempt counts as failed before it ends."""
        timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self.failed, address)
        try:
            yield
        finally:
            timer.cancel()

    async def _try(self, address: Address, reach: Reach, network: Network | None) -> None:
        if await accepts(address, self._trial_seconds, network=network):
            reach.passed()
        else:
            reach.failed(asyncio.get_running_loop().time())
