"""The agent's side of the announcements, against ztunnels that answer what they like."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4.net.network import Network
from l4.net.tasks import Tasks
from l4.node import packets, zds
from l4.node.announcer import Announced, Announcer
from l4.node.packets import Packets
from l4.node.zds import Add, Delete, Request, SnapshotSent
from tests.kit.aio import run
from tests.kit.mesh import settled

A, B = Add("a", "a", "default", "a"), Add("b", "b", "default", "b")


def announced(pod: Add) -> Announced:
    return Announced(pod, Network(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)))


class Ztunnel:
    """A connection that the test may close; its end closes it too."""

    def __init__(self, connection: Packets) -> None:
        self.connection = connection

    async def take(self, error: str = "") -> Request:
        """Return the next request, after an answer to it."""
        data, fds = await self.connection.receive()
        request = zds.decode_request(data, fds)
        packets.close_all(fds)
        await self.connection.send(zds.encode_ack(error))
        return request


Connect = Callable[..., Awaitable[Ztunnel]]


@asynccontextmanager
async def announcing(folder: Path) -> AsyncIterator[tuple[Announcer, Connect]]:
    path = folder / "run" / "ztunnel.sock"
    it, tasks = Announcer(path), Tasks()
    tasks.keep("announcing", it.serve)
    await settled(path.exists)
    connections: list[Packets] = []

    async def connect(hello: bytes = zds.HELLO) -> Ztunnel:
        count = it.ztunnel_count
        connections.append(packets.connect(path))
        await connections[-1].send(hello)
        if hello == zds.HELLO:
            await settled(lambda: it.ztunnel_count == count + 1)
        return Ztunnel(connections[-1])

    try:
        yield it, connect
    finally:
        await tasks.close()
        for connection in connections:
            connection.close()


def test_a_ztunnel_is_told_all_pods_and_then_what_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with announcing(tmp_path) as (it, connect):
            it.announce(announced(A))
            ztunnel = await connect()
            assert [await ztunnel.take(), await ztunnel.take()] == [A, SnapshotSent()]
            await settled(lambda: it.is_served("a"))
            it.announce(announced(B))
            assert await ztunnel.take() == B
            it.withdraw("a")
            assert await ztunnel.take() == Delete("a")
            assert not it.is_served("a")
            ztunnel.connection.close()
            await settled(lambda: not it.ztunnel_count)
            assert not it.is_served("b")

    run(scenario())


def test_a_pod_that_the_ztunnel_cannot_serve_is_announced_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with announcing(tmp_path) as (it, connect):
            it.announce(announced(A))
            ztunnel = await connect()
            assert [await ztunnel.take("no certificate"), await ztunnel.take()] == [A, SnapshotSent()]
            assert not it.is_served("a")
            assert await ztunnel.take() == A
            await settled(lambda: it.is_served("a"))

    run(scenario())


def test_during_a_hand_over_new_pods_are_the_latest_ztunnels_and_gone_ones_everybodys(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with announcing(tmp_path) as (it, connect):
            it.announce(announced(A))
            former = await connect()
            assert [await former.take(), await former.take()] == [A, SnapshotSent()]
            latest = await connect()
            assert [await latest.take(), await latest.take()] == [A, SnapshotSent()]
            it.announce(announced(B))
            assert await latest.take() == B
            it.withdraw("a")
            assert [await latest.take(), await former.take()] == [Delete("a"), Delete("a")]
            latest.connection.close()
            assert await former.take() == B
            await settled(lambda: it.is_served("b"))

    run(scenario())


def test_a_ztunnel_that_does_not_speak_the_protocol_is_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with announcing(tmp_path) as (it, connect):
            for first in (b"\x08\x07", b"\xff"):
                ztunnel = await connect(first)
                with pytest.raises(ConnectionError):
                    await ztunnel.connection.receive()
            assert not it.ztunnel_count

    run(scenario())
