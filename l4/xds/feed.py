"""Follow a control plane: addresses and authorization policies as they arrive.

Nothing is given out before the first response of each type has come: without the policies, too much would be allowed.
Later, what is known stays in force while the control plane is away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial

from l4.config.codes import DocumentCode
from l4.config.documents import ObjectKey, ObjectOrigin, Problem
from l4.config.doubts import Doubt
from l4.discovery.mesh import Mesh
from l4.discovery.workload_policies import ScopedPolicy
from l4.xds import addresses, authorizations
from l4.xds.addresses import Known
from l4.xds.client import DeltaClient
from l4.xds.discovered import Arrived
from l4.xds.inbox import Inbox, Kind
from l4.xds.metrics import Counts
from l4.xds.resource import Receiver
from l4.xds.server import DiscoveryServer

SETTLE_SECONDS = 0.1
"""A policy and the workloads that refer to it come in two responses, which should go live together."""
LOAD_SECONDS = 20.0
_LOOK_SECONDS = 1.0


class DiscoveryFeed:
    """Follows a control plane. With `is_on_demand` it has no addresses but those that were asked for by `find`.
    Without `has_policies`, it asks for addresses only."""

    def __init__(
        self, server: DiscoveryServer, mesh: Mesh, *, is_on_demand: bool = False, has_policies: bool = True
    ) -> None:
        self.is_on_demand = is_on_demand
        self._woken = asyncio.Event()
        self._addresses: Inbox[Known] = Inbox(
            Kind(addresses.TYPE, partial(addresses.convert, mesh=mesh), addresses.name_of, is_policy=False), self._woken
        )
        self._policies: Inbox[ScopedPolicy] = Inbox(
            Kind(authorizations.TYPE, authorizations.convert, authorizations.name_of, is_policy=True), self._woken
        )
        types: dict[str, Receiver] = {addresses.TYPE: self._addresses}
        if has_policies:
            types[authorizations.TYPE] = self._policies
        on_demand = frozenset({addresses.TYPE}) if is_on_demand else frozenset()
        self._client = DeltaClient(server, types, on_demand=on_demand, on_change=self._woken.set)
        self._begun, self._done = 0, 0
        """Numbers of the newest answer that `watch` has passed on, and of the newest that was taken."""
        self._waiting = 0
        self._found: set[str] = set()
        """Names that were asked for, and whose answers are in force; changes of them come by themselves."""
        self._applied = asyncio.Condition()
        self._following: asyncio.Task[None] | None = None
        self._doubts: tuple[Doubt, ...] = ()
        self._problems: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        return f"the discovery server {self._client.address}"

    @property
    def silent_seconds(self) -> float:
        return self._client.silent_seconds

    @property
    def counts(self) -> Counts:
        return self._client.counts

    async def load(self) -> Arrived:
        """Return the first state, or an empty one if it does not come in time."""
        following = self._begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOAD_SECONDS):
                while not following.done() and not self._client.is_complete:
                    self._woken.clear()
                    await self._woken.wait()
        return self._arrived()

    async def watch(self, take: Callable[[Arrived], Awaitable[None]]) -> None:
        """Pass on what arrives, when it has settled, one after the other, until cancelled."""
        following = self._begin()
        while not following.done():
            await self._wait(following)
            self._begun += 1
            await take(self._arrived())
            self._done = self._begun
            async with self._applied:
                self._applied.notify_all()
        following.result()

    async def find(self, name: str, seconds: float) -> bool:
        """Ask for an address, and wait until it is known, or known not to exist. Returns False if that takes longer."""
        if name in self._found:
            return True
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                if not await self._client.want(addresses.TYPE, name, seconds):
                    return False
                number = self._begun + 1 if self._addresses.has_news else self._begun
                async with self._applied:
                    await self._applied.wait_for(lambda: self._done >= number)
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        self._found.add(name)
        return True

    async def forget(self, name: str) -> None:
        """End the subscription to an address that does not exist."""
        self._found.discard(name)
        await self._client.unwant(addresses.TYPE, name)

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def _begin(self) -> "asyncio.Task[None]":
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(self._client.run())
        return self._following

    async def _wait(self, following: "asyncio.Task[None]") -> None:
        while not following.done() and not self._has_news():
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._woken.wait()
        if not self._waiting:
            await asyncio.sleep(SETTLE_SECONDS)

    def _has_news(self) -> bool:
        is_complete, inboxes = self._client.is_complete, (self._addresses, self._policies)
        has_arrived = is_complete and any(it.has_news for it in inboxes)
        return has_arrived or (self._find_doubts(), self._addresses.problems) != (self._doubts, self._problems)

    def _arrived(self) -> Arrived:
        self._doubts, self._problems = self._find_doubts(), self._addresses.problems
        if not self._client.is_complete:
            return Arrived({}, (), {}, (), self._doubts)
        return Arrived(*self._addresses.empty(), *self._policies.empty(), self._doubts, self._problems)

    def _find_doubts(self) -> tuple[Doubt, ...]:
        return (*self._lost(), *self._policies.doubts)

    def _lost(self) -> Iterator[Doubt]:
        is_complete = self._client.is_complete
        if is_complete and not self._client.failure:
            return
        key = ObjectKey("", "DiscoveryServer", "", self._client.address)
        sentence = self._client.failure or "it has not sent everything yet"
        kept = "; what was known stays in force" if is_complete else ""
        problem = Problem(ObjectOrigin(key, "none"), str(key), "", f"{sentence}{kept}", DocumentCode.CONTENT_HELD)
        yield Doubt(problem, is_complete, None)
