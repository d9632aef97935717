"""The copier over real sockets, on uvloop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from l4.net.copy import Copy, SideLost, reset_on_close
from tests.kit.aio import run

BIG = bytes(range(256)) * 16_384


class Joined:
    """Two connections with a Copy between them; `client` and `server` are their outer ends."""

    def __init__(self) -> None:
        self.copy = Copy(self._done)
        self.reasons: list[Exception | None] = []
        self.is_done = asyncio.Event()
        self.client, self._near = _connected()
        self.server, self._far = _connected()

    async def connect_near(self) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.copy.near, self._near)

    async def connect_far(self) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.copy.far, self._far)

    def _done(self, reason: Exception | None) -> None:
        self.reasons.append(reason)
        self.is_done.set()

    async def done(self) -> Exception | None:
        await self.is_done.wait()
        await asyncio.sleep(0)
        assert len(self.reasons) == 1
        return self.reasons[0]


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@asynccontextmanager
async def joined() -> AsyncIterator[Joined]:
    pair = Joined()
    await pair.connect_far()
    await pair.connect_near()
    try:
        yield pair
    finally:
        pair.copy.abort(ConnectionError("the test is over"))
        await pair.is_done.wait()
        pair.client.close()
        pair.server.close()


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def read_all(sock: socket.socket) -> bytes:
    chunks = []
    while chunk := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def test_bytes_pass_both_ways_and_are_counted() -> None:
    async def scenario() -> None:
        async with joined() as pair:
            await send(pair.client, b"question")
            await send(pair.server, b"an answer")
            pair.client.shutdown(socket.SHUT_WR)
            pair.server.shutdown(socket.SHUT_WR)

            heard = await read_all(pair.server), await read_all(pair.client)

            assert heard == (b"question", b"an answer")
            assert await pair.done() is None
            assert (pair.copy.received, pair.copy.sent) == (8, 9)

    run(scenario())


def test_the_end_of_one_direction_leaves_the_other_open() -> None:
    async def scenario() -> None:
        async with joined() as pair:
            await send(pair.client, b"question")
            pair.client.shutdown(socket.SHUT_WR)

            question = await read_all(pair.server)
            await send(pair.server, BIG)
            pair.server.shutdown(socket.SHUT_WR)

            assert question == b"question"
            assert await read_all(pair.client) == BIG
            assert await pair.done() is None

    run(scenario())


def test_a_side_that_does_not_read_stops_the_other_from_being_read() -> None:
    async def scenario() -> None:
        async with joined() as pair:
            sending = asyncio.create_task(send(pair.client, BIG * 8))
            await _until_still(lambda: pair.copy.received)

            held = pair.copy.received
            reading = asyncio.create_task(read_all(pair.server))
            await sending
            pair.client.shutdown(socket.SHUT_WR)

            assert held < len(BIG) * 8
            assert await reading == BIG * 8

    run(scenario())


def test_a_reset_of_one_side_resets_the_other_and_names_who_broke() -> None:
    async def scenario() -> None:
        async with joined() as pair:
            reset_on_close(pair.client)
            pair.client.close()

            with pytest.raises(ConnectionResetError):
                await read_all(pair.server)

            reason = await pair.done()
            assert isinstance(reason, SideLost)
            assert reason.side == "client"
            assert str(reason).startswith("client disconnected before all data was written")

    run(scenario())


def test_what_a_side_said_before_it_broke_arrives_when_it_had_said_everything() -> None:
    async def scenario() -> None:
        async with joined() as pair:
            await send(pair.server, BIG)
            pair.server.shutdown(socket.SHUT_WR)
            answer = asyncio.create_task(read_all(pair.client))
            await _until_still(lambda: pair.copy.sent)
            reset_on_close(pair.server)
            pair.server.close()

            heard = await answer
            await send(pair.client, b"more")

            assert heard == BIG
            assert isinstance(await pair.done(), SideLost)

    run(scenario())


def test_what_comes_before_the_other_side_is_there_waits_for_it() -> None:
    async def scenario() -> None:
        pair = Joined()
        await pair.connect_far()
        await send(pair.server, b"220 speaks first")
        pair.server.shutdown(socket.SHUT_WR)
        await _until_still(lambda: pair.copy.sent)

        await pair.connect_near()

        assert await read_all(pair.client) == b"220 speaks first"
        pair.client.close()
        assert await pair.done() is None
        pair.server.close()

    run(scenario())


def test_a_side_that_waits_alone_is_read_no_further_than_its_first_chunk() -> None:
    async def scenario() -> None:
        pair = Joined()
        await pair.connect_near()
        sending = asyncio.create_task(send(pair.client, BIG * 8))
        await _until_still(lambda: pair.copy.received)

        held = pair.copy.received
        await pair.connect_far()
        reading = asyncio.create_task(read_all(pair.server))
        await sending
        pair.client.close()

        assert held <= 1 << 20
        assert await reading == BIG * 8
        pair.server.close()
        await pair.done()

    run(scenario())


def test_abort_resets_both_sides_and_a_side_that_comes_too_late() -> None:
    async def scenario() -> None:
        pair = Joined()
        await pair.connect_near()
        error = ConnectionError("drained")

        pair.copy.abort(error)
        await pair.connect_far()

        for sock in (pair.client, pair.server):
            with pytest.raises(ConnectionResetError):
                await read_all(sock)
            sock.close()
        assert await pair.done() is error

    run(scenario())


async def _until_still(count: Callable[[], int]) -> None:
    """Wait until bytes have moved, and nothing moves any more."""
    known = 0
    for _ in range(200):
        await asyncio.sleep(0.05)
        if known == (known := count()) and known:
            return
    raise AssertionError("nothing moves")
