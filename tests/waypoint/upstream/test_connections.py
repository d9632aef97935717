"""The assignment of streams to HTTP/2 connections of one endpoint, and the opening of further connections."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from l4.http2 import frames
from policies.attributes import RequestHead
from policies.circuit import Circuit, CircuitLimits
from policies.connection_pool import ConnectionPool
from tests.kit.mesh import with_settings
from tests.kit.virtual_time import run_virtually
from tests.kit.wire import Wire
from tests.waypoint.http.test_h2_connection import Answer
from waypoint.errors import UpstreamConnectFailed, UpstreamOverflow
from waypoint.http.events import EMPTY
from waypoint.http.h2_client import ClientStream, Http2Client
from waypoint.upstream.connections import Http2Connections

GET = RequestHead(b"GET", b"app", b"/", b"", [])


class Lab:
    """Connections with room for so many streams each; none answers. The third one and further ones fail if told to."""

    def __init__(self, streams: int = 2, max_connections: int = 100) -> None:
        self.circuit = Circuit(CircuitLimits(max_connections=max_connections))
        self.connections = Http2Connections(self.circuit)
        self.made: list[Http2Client] = []
        self.failure = ""
        self._pool = ConnectionPool(max_concurrent_streams=streams)

    async def connect(self) -> Http2Client:
        await asyncio.sleep(1)
        if self.failure:
            raise UpstreamConnectFailed(self.failure)
        client = Http2Client(with_settings(), self.connections.gone, self.connections.has_room, self._pool)
        client.connection_made(Wire())
        client.data_received(frames.settings_frame({}))
        self.made.append(client)
        return client

    def spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return asyncio.create_task(coroutine)

    async def open(self, seconds: float = 5) -> ClientStream:
        stream = await self.connections.open(self.connect, self.spawn, seconds)
        stream.send_head(GET, EMPTY, Answer())
        return stream


def scenario(run: Callable[[], Coroutine[None, None, None]]) -> None:
    run_virtually(run())


def test_a_burst_of_requests_waits_for_one_connection() -> None:
    @scenario
    async def _() -> None:
        lab = Lab()

        await asyncio.gather(lab.open(), lab.open())

        assert (len(lab.made), lab.connections.count, lab.circuit.connections) == (1, 1, 1)


def test_a_further_connection_is_made_when_the_first_is_full() -> None:
    @scenario
    async def _() -> None:
        lab = Lab()

        await asyncio.gather(*(lab.open() for _ in range(3)))

        assert (len(lab.made), lab.circuit.connections) == (2, 2)


def test_where_there_may_be_no_further_connection_one_waits_for_a_stream() -> None:
    @scenario
    async def _() -> None:
        lab = Lab(streams=1, max_connections=1)
        first = await lab.open()
        waiting = asyncio.create_task(lab.open(seconds=30))
        await asyncio.sleep(10)
        assert not waiting.done()

        first.abort()

        await waiting
        assert len(lab.made) == 1


def test_who_waits_too_long_for_a_stream_is_told_of_the_limit() -> None:
    @scenario
    async def _() -> None:
        lab = Lab(streams=1, max_connections=1)
        await lab.open()

        with pytest.raises(UpstreamOverflow):
            await lab.open(seconds=2)

        assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)


def test_all_who_wait_for_a_connection_that_fails_are_told_and_the_place_is_free_again() -> None:
    @scenario
    async def _() -> None:
        lab = Lab()
        lab.failure = "refused"

        results = await asyncio.gather(lab.open(), lab.open(), return_exceptions=True)

        assert [type(it) for it in results] == [UpstreamConnectFailed] * 2
        assert (lab.circuit.connections, lab.connections.count) == (0, 0)
        lab.failure = ""
        await lab.open()


def test_a_connection_that_is_gone_makes_room_for_another() -> None:
    @scenario
    async def _() -> None:
        lab = Lab(streams=1, max_connections=1)
        await lab.open()
        waiting = asyncio.create_task(lab.open(seconds=30))
        await asyncio.sleep(1)

        lab.made[0].connection_lost(None)

        await waiting
        assert (len(lab.made), lab.circuit.connections) == (2, 1)


def test_only_idle_connections_are_closed_for_being_idle() -> None:
    @scenario
    async def _() -> None:
        lab = Lab(streams=1)
        busy, idle = await asyncio.gather(lab.open(), lab.open())
        idle.abort()
        await asyncio.sleep(60)

        lab.connections.close_idle(asyncio.get_running_loop().time() - 30)

        assert lab.connections.count == 1
        assert busy in lab.made[0].streams.values() or busy in lab.made[1].streams.values()
