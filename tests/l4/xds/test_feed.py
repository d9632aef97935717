"""Following a control plane over TLS: nothing before everything has come, then what changes, and doubts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4._proto.authorization_pb2 import Authorization
from l4._proto.workload_pb2 import Workload
from l4.discovery.mesh import Mesh
from l4.xds import feed
from l4.xds.discovered import Arrived
from l4.xds.feed import DiscoveryFeed
from tests.kit.aio import run
from tests.kit.discovery_server import ADDRESS, AUTHORIZATION, DiscoveryServer


class World:
    def __init__(self, server: DiscoveryServer) -> None:
        self.server = server
        self.feed = DiscoveryFeed(server.server(), Mesh())
        self.arrived: list[Arrived] = []
        self._is_new = asyncio.Condition()

    async def take(self, arrived: Arrived) -> None:
        async with self._is_new:
            self.arrived.append(arrived)
            self._is_new.notify_all()

    async def until(self, condition: Callable[[Arrived], bool]) -> Arrived:
        """Wait for an answer that fulfils the condition."""
        async with asyncio.timeout(20), self._is_new:
            await self._is_new.wait_for(lambda: any(map(condition, self.arrived)))
        return next(filter(condition, self.arrived))


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[World]:
    """The first state was loaded."""
    server = DiscoveryServer(folder)
    async with server.serving():
        it = World(server)
        await server.put(pod("a"))
        await it.take(await it.feed.load())
        watching = asyncio.get_running_loop().create_task(it.feed.watch(it.take))
        try:
            yield it
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await it.feed.close()


def pod(name: str, service_account: str = "") -> Workload:
    return Workload(uid=name, name=name, namespace="ns", service_account=service_account)


def test_the_first_state_is_complete(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watching(tmp_path) as it:
            assert list(it.arrived[0].changed) == ["a"]
            assert it.arrived[0].doubts == ()
            assert it.feed.silent_seconds == 0

    run(scenario())


def test_without_the_policies_nothing_is_given_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LOAD_SECONDS", 0.5)

    async def scenario() -> None:
        server = DiscoveryServer(tmp_path, held={AUTHORIZATION})
        async with server.serving():
            it = World(server)
            await server.put(pod("a"))
            first = await it.feed.load()
            await it.feed.close()

            assert server.stream.of(ADDRESS)[-1].response_nonce
            assert first.changed == {}
            (doubt,) = first.doubts
            assert "it has not sent everything yet" in str(doubt.problem)
            assert not doubt.has_last_good

    run(scenario())


def test_a_server_that_is_not_there_is_a_doubt_and_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LOAD_SECONDS", 0.5)

    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)
        it = World(server)
        first = await it.feed.load()
        assert (first.changed, [doubt.has_last_good for doubt in first.doubts]) == ({}, [False])
        watching = asyncio.get_running_loop().create_task(it.feed.watch(it.take))
        await server.put(pod("a"))
        async with server.serving():
            assert (await it.until(lambda it: bool(it.changed))).doubts == ()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await it.feed.close()

    run(scenario())


def test_a_policy_and_the_workloads_that_name_it_go_live_together(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watching(tmp_path) as it:
            await it.server.put(pod("a", "new"), Authorization(name="p", namespace="ns"))
            both = await it.until(lambda it: bool(it.policies))

            assert list(both.changed) == ["a"]

            await it.server.remove(AUTHORIZATION, "ns/p")
            await it.server.remove(ADDRESS, "a")
            gone = await it.until(lambda it: bool(it.gone))
            assert (set(gone.gone), set(gone.gone_policies)) == ({"a"}, {"ns/p"})

    run(scenario())


def test_a_refused_address_is_a_problem_and_a_refused_policy_a_doubt_until_they_are_good(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watching(tmp_path) as it:
            await it.server.put_raw(ADDRESS, {"a": b"\xff"})
            await it.server.put_raw(AUTHORIZATION, {"ns/p": b"\xff"})
            refused = await it.until(lambda it: bool(it.doubts) and bool(it.problems))
            assert [problem.subject for problem in refused.problems] == ["Address a"]
            assert [doubt.problem.subject for doubt in refused.doubts] == ["Authorization ns/p"]

            it.arrived.clear()
            await it.server.put(pod("a"), Authorization(name="p", namespace="ns"))
            await it.until(lambda it: not it.doubts and not it.problems)

    run(scenario())


def test_a_lost_server_is_a_doubt_and_nothing_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)
        it = World(server)
        async with server.serving():
            await server.put(pod("a"))
            await it.feed.load()
            watching = asyncio.get_running_loop().create_task(it.feed.watch(it.take))
        lost = await it.until(lambda it: bool(it.doubts))
        (doubt,) = lost.doubts
        assert doubt.has_last_good
        assert "; what was known stays in force" in str(doubt.problem)
        assert (lost.changed, lost.gone) == ({}, set())

        it.arrived.clear()
        async with server.serving():
            await it.until(lambda it: not it.doubts)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await it.feed.close()

    run(scenario())
