"""Ports for short visits, over real sockets: accepted and rejected connections, and their time limits."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from l4.net import visits
from l4.net.listener import bind
from l4.net.visits import VisitServer
from tests.kit.aio import run
from tests.kit.mesh import settled


class Answering(asyncio.Protocol):
    """Says who it is talking to as soon as a line has come, and ends; `hold` lets it think for ever."""

    def __init__(self, town: "Town") -> None:
        self._town = town

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._town.server.asked(self._transport)
        if data.startswith(b"hold"):
            return
        self._transport.write(b"hello\n")  # type: ignore[attr-defined]
        self._transport.close()


class Town:
    def __init__(self, max_visits: int) -> None:
        self.refused: list[str] = []
        self.server = VisitServer(bind("127.0.0.1", 0), lambda: Answering(self), max_visits, self.refused.append)
        self._clients: list[socket.socket] = []

    def come(self, ip: str = "127.0.0.1") -> socket.socket:
        client = socket.create_connection(self.server.address, source_address=(ip, 0))
        client.setblocking(False)
        self._clients.append(client)
        return client

    async def ask(self, client: socket.socket, line: bytes = b"who\n") -> bytes:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(client, line)
            return await loop.sock_recv(client, 100)
        except OSError:
            return b""

    def leave(self) -> None:
        self.server.abort()
        for client in self._clients:
            client.close()


@asynccontextmanager
async def _town(max_visits: int) -> AsyncIterator[Town]:
    town = Town(max_visits)
    try:
        yield town
    finally:
        town.leave()
        await settled(lambda: not len(town.server))


def test_however_many_say_nothing_who_asks_is_answered() -> None:
    async def scenario() -> None:
        async with _town(8) as town:
            for _ in range(10):
                for _ in range(50):
                    town.come()
                    await asyncio.sleep(0)
                assert await town.ask(town.come()) == b"hello\n"

            await settled(lambda: len(town.server) <= 8)
            assert town.refused.count("operator_connections") >= 400

    run(scenario())


def test_the_address_with_the_most_connections_makes_room() -> None:
    async def scenario() -> None:
        async with _town(4) as town:
            quiet = town.come("127.0.0.2")
            await settled(lambda: len(town.server) == 1)
            for _ in range(20):
                town.come("127.0.0.3")
                await asyncio.sleep(0.001)

            assert await town.ask(quiet) == b"hello\n"

    run(scenario())


def test_who_has_asked_stays_before_who_has_not() -> None:
    async def scenario() -> None:
        async with _town(4) as town:
            asked = town.come()
            await asyncio.get_running_loop().sock_sendall(asked, b"hold\n")
            await settled(lambda: any(visit.has_asked for visit in town.server._visits))
            for _ in range(20):
                town.come()
                await asyncio.sleep(0.001)

            assert any(visit.has_asked for visit in town.server._visits)

    run(scenario())


@pytest.mark.parametrize("line", [b"", b"hold\n"], ids=["before it asks", "while it is answered"])
def test_a_connection_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr(visits, "ASK_SECONDS", 0.1 if not line else 60.0)
    monkeypatch.setattr(visits, "ANSWER_SECONDS", 0.1)

    async def scenario() -> None:
        async with _town(4) as town:
            assert await town.ask(town.come(), line) == b""
            assert town.refused == ["operator_seconds"]

    run(scenario())
