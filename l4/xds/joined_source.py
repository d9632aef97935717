"""A source of objects, and a discovery server that sends the workloads, as one source.

An answer of either passes on the doubts and problems of both. What the server sends goes to a `JoinedMesh`, and an
answer follows, with no object if none has changed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from l4.config.documents import Problem
from l4.config.doubts import Doubt
from l4.config.source import Answer, Changes, Documents, Source, Take
from l4.xds.discovered import Arrived
from l4.xds.feed import DiscoveryFeed
from l4.xds.joined_mesh import JoinedMesh


class JoinedSource:
    """`objects` and `feed` as a `Source`. Whoever takes its answers gives each to `mesh`, too."""

    def __init__(self, objects: Source, feed: DiscoveryFeed, mesh: JoinedMesh) -> None:
        self._objects = objects
        self._feed = feed
        self._mesh = mesh
        self._problems: tuple[Problem, ...] = ()
        self._doubts: tuple[Doubt, ...] = ()
        self._sent_doubts: tuple[Doubt, ...] = ()
        self._taking = asyncio.Lock()
        self._needs_documents = False
        """Whether an answer of the objects was not taken. Documents follow, and nothing is passed on before them."""

    @property
    def lack(self) -> str:
        return self._objects.lack

    @property
    def silent_seconds(self) -> float:
        return max(self._objects.silent_seconds, self._feed.silent_seconds)

    async def load(self) -> Documents:
        documents, arrived = await asyncio.gather(self._objects.load(), self._feed.load())
        self._arrive(arrived)
        return replace(documents, doubts=self._note(documents))

    async def watch(self, take: Take) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._objects.watch(self._taking_objects(take)))
            group.create_task(self._feed.watch(self._taking_sent(take)))

    async def close(self) -> None:
        await asyncio.gather(self._objects.close(), self._feed.close())

    def _taking_objects(self, take: Take) -> Take:
        async def pass_on(answer: Answer) -> None:
            async with self._taking:
                self._needs_documents = True
                await take(replace(answer, doubts=self._note(answer)))
                self._needs_documents = False

        return pass_on

    def _taking_sent(self, take: Take) -> Callable[[Arrived], Awaitable[None]]:
        async def pass_on(arrived: Arrived) -> None:
            async with self._taking:
                self._arrive(arrived)
                if not self._needs_documents:
                    await take(Changes((), (), self._problems, (*self._doubts, *self._sent_doubts)))

        return pass_on

    def _arrive(self, arrived: Arrived) -> None:
        self._mesh.arrive(arrived)
        self._sent_doubts = arrived.doubts

    def _note(self, answer: Answer) -> tuple[Doubt, ...]:
        """Remember what an answer for objects says. Returns all doubts."""
        self._problems, self._doubts = answer.problems, answer.doubts
        return (*self._doubts, *self._sent_doubts)
