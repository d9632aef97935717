"""Objects and a discovery server as one source: its answers say what is unknown at either."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4._proto.workload_pb2 import Workload
from l4.config.source import Answer, Changes, Documents
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.pipeline import Discovery
from l4.discovery.registry import Registry
from l4.xds import feed
from l4.xds.feed import DiscoveryFeed
from l4.xds.joined_mesh import JoinedMesh
from l4.xds.joined_source import JoinedSource
from tests.kit.aio import run
from tests.kit.api_server import ApiServer, ApiServerSource
from tests.kit.discovery_server import ADDRESS, AUTHORIZATION, DiscoveryServer

SERVICE = "{apiVersion: v1, kind: Service, metadata: {name: NAME}, spec: {ports: [{port: 80}]}}"


class World:
    """`failures` answers for objects are not taken."""

    def __init__(self, folder: Path) -> None:
        self.objects, self.server = ApiServer(), DiscoveryServer(folder)
        self._mesh, self._discovery = JoinedMesh(Mesh()), Discovery(KINDS, Mesh())
        following = DiscoveryFeed(self.server.server(), Mesh(), has_policies=False)
        self.source = JoinedSource(ApiServerSource(self.objects), following, self._mesh)
        self.answers: list[Answer] = []
        self.registry = Registry()
        self.failures = 0
        self._is_new = asyncio.Condition()

    async def take(self, answer: Answer) -> None:
        if self.failures and (isinstance(answer, Documents) or answer.changed):
            self.failures -= 1
            raise ZeroDivisionError
        self.registry = self._mesh.take(self._discovery.take(answer)).registry
        async with self._is_new:
            self.answers.append(answer)
            self._is_new.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._is_new:
            await self._is_new.wait_for(condition)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["asyncio.Task[None]"]:
        watching = asyncio.get_running_loop().create_task(self.source.watch(self.take))
        try:
            yield watching
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def pod(name: str) -> Workload:
    return Workload(uid=name, name=name, namespace="ns")


def test_news_of_either_side_come_with_what_the_other_one_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        it = World(tmp_path)
        it.objects.apply(SERVICE.replace("NAME", "a"))
        async with it.server.serving():
            await it.server.put(pod("one"))
            await it.take(await it.source.load())
            assert [key.name for key in (document.key for document in it.answers[0].documents)] == ["a"]  # type: ignore[union-attr]
            assert (list(it.registry.workloads), it.answers[0].doubts) == (["one"], ())
            assert not it.server.stream.of(AUTHORIZATION)

            async with it.watching():
                it.objects.refuse("", "Service")
                await it.until(lambda: bool(it.answers[-1].doubts))
                await it.server.put(pod("two"))
                await it.until(lambda: "two" in it.registry.workloads)
                (doubt,) = it.answers[-1].doubts
                assert "cannot be listed" in str(doubt.problem)
                assert it.answers[-1] == Changes((), (), (), (doubt,))

                it.objects.apply(SERVICE.replace("NAME", "b").replace("v1, kind: Service", "v1, kind: Pod"))
                await it.server.remove(ADDRESS, "one")
                await it.until(lambda: list(it.registry.workloads) == ["two"])
            await it.source.close()

    run(scenario())


def test_a_server_that_is_not_there_is_a_doubt_and_leaves_nothing_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LOAD_SECONDS", 0.2)

    async def scenario() -> None:
        it = World(tmp_path)
        it.objects.apply(SERVICE.replace("NAME", "a"))

        await it.take(await it.source.load())

        (doubt,) = it.answers[0].doubts
        assert not doubt.has_last_good
        assert it.source.silent_seconds > 0
        async with it.server.serving(), it.watching():
            await it.until(lambda: not it.answers[-1].doubts)
            assert it.source.silent_seconds == 0
        await it.source.close()

    run(scenario())


def test_after_objects_were_not_taken_all_of_them_come_before_anything_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        it = World(tmp_path)
        async with it.server.serving():
            await it.take(await it.source.load())
            it.failures = 1
            async with it.watching() as watching:
                it.objects.apply(SERVICE.replace("NAME", "a"))
                with pytest.raises(ExceptionGroup):
                    await watching
            await it.server.put(pod("one"))
            it.objects.apply(SERVICE.replace("NAME", "b"))
            async with it.watching():
                await it.until(lambda: "one" in it.registry.workloads)
            await it.source.close()

        assert isinstance(it.answers[1], Documents)
        assert [it.name for it in it.registry.services.values()] == ["a", "b"]

    run(scenario())
