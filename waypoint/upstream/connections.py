"""HTTP/2 connections to one endpoint, shared by all its exchanges. Another one is opened when all are full."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from policies.circuit import Circuit
from waypoint.errors import ExchangeError, UpstreamConnectFailed, UpstreamOverflow
from waypoint.http.h2_client import ClientStream, Http2Client

Spawn = Callable[[Coroutine[None, None, None]], asyncio.Task[None]]
"""Starts a task that another object owns and ends."""


class Http2Connections:
    __slots__ = ("_circuit", "_clients", "_connecting", "_failure", "_is_overflow", "_room")

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._room: asyncio.Future[None] | None = None
        self._clients: list[Http2Client] = []
        self._connecting: asyncio.Task[None] | None = None
        self._failure = ""
        self._is_overflow = False  # whether the failure is an overflow

    @property
    def count(self) -> int:
        return len(self._clients)

    def take(self) -> ClientStream | None:
        """Return a stream on a connection with room, or None."""
        for client in self._clients:
            stream = client.stream()
            if stream is not None:
                return stream
        return None

    async def open(self, connect: Callable[[], Awaitable[Http2Client]], spawn: Spawn, seconds: float) -> ClientStream:
        """Return a stream, on a new connection if needed.

        Only one connection is opened at a time, and concurrent calls wait for it, so that a burst of requests does not
        open a burst of connections. If the connection limit is reached, waits at most `seconds` for a stream. Raises
        UpstreamConnectFailed, UpstreamOverflow.
        """
        while (stream := self.take()) is None:
            if self._connecting is None and not self._circuit.may_connect(len(self._clients)):
                await self._wait(seconds)
                continue
            if self._connecting is None:
                self._failure, self._is_overflow = "the connection was not established", False
                self._connecting = spawn(self._connect(connect))
            await asyncio.wait({self._connecting})
            if self._failure and self._connecting is None:
                raise (UpstreamOverflow if self._is_overflow else UpstreamConnectFailed)(self._failure)
        return stream

    def gone(self, client: Http2Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._circuit.end_connection()
            self.has_room()

    def has_room(self) -> None:
        """A stream or connection has ended."""
        room, self._room = self._room, None
        if room is not None:
            room.set_result(None)

    def retire(self) -> None:
        for client in list(self._clients):
            client.retire()

    def close_idle(self, before: float) -> None:
        """Close connections idle since `before`."""
        for client in list(self._clients):
            if not client.streams and client.idle_since < before:
                client.retire()

    async def _wait(self, seconds: float) -> None:
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._room)
        except TimeoutError:
            raise UpstreamOverflow(f"no stream became free within {seconds:g} s") from None

    async def _connect(self, connect: Callable[[], Awaitable[Http2Client]]) -> None:
        self._circuit.begin_connection()
        is_made = False
        try:
            self._clients.append(await connect())
            is_made = True
            self._failure = ""
        except ExchangeError as error:
            self._failure, self._is_overflow = error.reason, isinstance(error, UpstreamOverflow)
        finally:
            self._connecting = None
            if not is_made:
                self._circuit.end_connection()
