"""The ztunnel's side of the announcements, against an agent that says what it likes."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from l4.node import packets, zds
from l4.node.packets import Packets
from l4.node.receiver import Receiver
from l4.node.zds import Add, Delete, Keep, Request, SnapshotSent
from l4.ztunnel.in_pod import InPods
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.pod_network import namespace, needs_namespaces

A, B = Add("a", "a", "default", "a"), Add("b", "b", "default", "b")


@dataclass
class Ztunnel:
    """`unserved` are names of pods that cannot be served."""

    unserved: set[str] = field(default_factory=set)
    concern: str = ""
    pods: InPods = field(init=False)

    def __post_init__(self) -> None:
        self.pods = InPods(lambda: None, lambda _, name: name not in self.unserved)

    def told(self, sentence: str) -> None:
        self.concern = sentence


@asynccontextmanager
async def ztunnel(folder: Path) -> AsyncIterator[tuple[Ztunnel, "Agent"]]:
    it, path = Ztunnel(), folder / "ztunnel.sock"
    listening = packets.listen(path)
    following = asyncio.create_task(Receiver(path, it.pods, it.told).follow())
    agent = Agent(listening)
    await agent.accept()
    try:
        yield it, agent
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        agent.connection.close()
        listening.close()
        for uid in it.pods.uids():
            it.pods.remove(uid)


class Agent:
    connection: Packets

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening

    async def accept(self) -> None:
        sock, _ = await asyncio.get_running_loop().sock_accept(self._listening)
        self.connection = Packets(sock)
        assert (await self.connection.receive())[0] == zds.HELLO

    async def ask(self, request: Request, *fds: int) -> str:
        return await self.say(zds.encode_request(request), fds)

    async def add(self, request: Add, process: int | str = "self") -> str:
        fd = os.open(f"/proc/{process}/ns/net", os.O_RDONLY)
        try:
            return await self.ask(request, fd)
        finally:
            os.close(fd)

    async def say(self, data: bytes, fds: Sequence[int] = ()) -> str:
        await self.connection.send(data, fds)
        return zds.decode_ack((await self.connection.receive())[0])


def test_the_ztunnel_is_ready_once_it_has_the_snapshot_and_serves_all_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ztunnel(tmp_path) as (it, agent):
            it.unserved = {"b"}
            assert "has not announced its pods yet" in it.concern
            assert await agent.add(A) == ""
            assert "pod default/b is not served yet" in await agent.add(B)
            assert it.concern != ""
            assert await agent.ask(SnapshotSent()) == ""
            assert "pod default/b is not served yet" in it.concern
            it.unserved = set()
            assert await agent.add(B) == ""
            assert it.concern == ""
            assert await agent.ask(Delete("unknown")) == ""
            assert await agent.ask(Delete("a")) == ""
            assert it.pods.uids() == {"b"}

    run(scenario())


def test_pods_are_served_without_the_agent_until_the_next_snapshot_leaves_them_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ztunnel(tmp_path) as (it, agent):
            for pod in (A, B):
                assert await agent.add(pod) == ""
            assert await agent.ask(SnapshotSent()) == ""
            agent.connection.close()
            await settled(lambda: "announces nothing" in it.concern)
            assert it.pods.uids() == {"a", "b"}
            await agent.accept()
            assert await agent.ask(Keep("a")) == ""
            assert it.pods.uids() == {"a", "b"}
            assert await agent.ask(SnapshotSent()) == ""
            assert it.pods.uids() == {"a"}
            assert it.concern == ""

    run(scenario())


@needs_namespaces
def test_a_pod_gets_another_place_only_with_another_namespace(tmp_path: Path) -> None:
    async def scenario(first: int, second: int) -> None:
        async with ztunnel(tmp_path) as (it, agent):
            before = len(os.listdir("/proc/self/fd"))
            for process in (first, first, second):
                assert await agent.add(A, process) == ""
            assert it.pods.uids() == {"a"}
            assert len(os.listdir("/proc/self/fd")) == before + 1

    with namespace() as (_, first), namespace() as (_, second):
        run(scenario(first, second))


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    ("data", "fds"),
    [
        (zds.encode_request(A), 0),
        (zds.encode_request(A), 2),
        (zds.encode_request(A), 9),
        (zds.encode_request(Delete("a")), 1),
        (b"\xff", 0),
        (b"\0" * packets.MAX_PACKET, 0),
    ],
)
def test_a_broken_request_is_answered_and_ends_the_connection(
    tmp_path: Path, data: bytes, fds: int, *, is_late: bool
) -> None:
    async def scenario() -> None:
        async with ztunnel(tmp_path) as (it, agent):
            if is_late:
                assert await agent.ask(SnapshotSent()) == ""
            before = len(os.listdir("/proc/self/fd"))
            assert await agent.say(data, [0] * fds) != ""
            with pytest.raises(ConnectionResetError):
                await agent.connection.receive()
            agent.connection.close()
            await agent.accept()
            assert len(os.listdir("/proc/self/fd")) == before
            assert it.concern != ""

    run(scenario())


@pytest.mark.parametrize("request_", [Keep("a"), SnapshotSent()])
def test_a_second_snapshot_breaks_the_protocol(tmp_path: Path, request_: Request) -> None:
    async def scenario() -> None:
        async with ztunnel(tmp_path) as (_, agent):
            assert await agent.ask(SnapshotSent()) == ""
            assert await agent.ask(request_) == "the snapshot has already been sent"
            with pytest.raises(ConnectionResetError):
                await agent.connection.receive()

    run(scenario())
