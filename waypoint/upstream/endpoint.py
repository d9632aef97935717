"""One endpoint with its live state: what is under way to it, its connections, how it has done lately.

Where the destination may have no further connection, who needs one waits here for that of another to become free, the
first who came first.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from policies.balancing.endpoint import Endpoint
from policies.circuit import Circuit
from policies.connection_pool import ConnectionPool
from policies.outlier import Health
from policies.reach import SLOW_SECONDS, Reach
from waypoint.errors import UpstreamConnectFailed, UpstreamOverflow
from waypoint.http.client import Http1Client
from waypoint.http.h2_client import ClientStream
from waypoint.upstream.connections import Http2Connections

_Waiting = asyncio.Future[Http1Client | None]


class LiveEndpoint:
    """`noted` is told whether a connection could be made. `active` counts attempts; of HTTP/1.1 connections, `idle`
    are those that wait, the last used first. `weight` is the endpoint's while nothing makes it count less."""

    __slots__ = (
        "_clients",
        "_waiting",
        "active",
        "came_at",
        "circuit",
        "endpoint",
        "health",
        "http2",
        "idle",
        "is_retired",
        "noted",
        "pool",
        "reach",
        "weight",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        circuit: Circuit,
        pool: ConnectionPool,
        came_at: float,
        noted: Callable[["LiveEndpoint", bool], None] = lambda live, is_reached: None,
    ) -> None:
        self.noted = noted
        self.endpoint = endpoint
        self.circuit = circuit
        self.pool = pool
        self.came_at = came_at
        self.weight = endpoint.weight
        self.active = 0
        self.health = Health()
        self.reach = Reach()
        self.idle: list[Http1Client] = []
        self.http2 = Http2Connections(circuit)
        self.is_retired = False
        self._clients: set[Http1Client] = set()
        self._waiting: deque[_Waiting] = deque()

    def take(self, is_http2: bool) -> Http1Client | ClientStream | None:
        """Somewhere to send a request at once."""
        if is_http2:
            return self.http2.take()
        return self.idle.pop() if self.idle else None

    @property
    def is_left_alone(self) -> bool:
        return self.health.is_ejected or self.reach.is_avoided

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Around an attempt to connect: how it ends counts, and one that takes long counts before it has ended."""
        timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self.noted, self, False)
        try:
            yield
        except UpstreamConnectFailed as error:
            if not error.is_ours:
                self.noted(self, False)
            raise
        finally:
            timer.cancel()
        self.noted(self, True)

    # -- connections of HTTP/1.1 -----------------------------------------------------------------------------------

    @property
    def connection_count(self) -> int:
        """Of every version of HTTP."""
        return len(self._clients) + self.http2.count

    @property
    def may_connect(self) -> bool:
        return self.circuit.may_connect(len(self._clients))

    def opening(self, client: Http1Client) -> None:
        """A connection is about to be made; `gone` ends it, however it goes."""
        self._clients.add(client)
        self.circuit.connections += 1

    async def wait(self, seconds: float) -> Http1Client | None:
        """A connection that somebody else is done with, or None when one may be made now. Raises UpstreamOverflow."""
        waiting: _Waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(seconds):
                client = await waiting
        except BaseException as error:
            if waiting.done() and not waiting.cancelled():
                client = waiting.result()
                if client is not None:
                    self.give_back(client)
                else:
                    self._wake(None)
            if isinstance(error, TimeoutError):
                raise UpstreamOverflow(f"no connection became free within {seconds:g} s") from None
            raise
        return client if client in self._clients else None  # it may have broken before our turn came

    def free(self, client: Http1Client, now: float) -> None:
        """A connection is done with its exchange: keep it for the next one."""
        client.served += 1
        client.idle_since = now
        self.give_back(client)

    def give_back(self, client: Http1Client) -> None:
        """A connection is not needed after all, or no longer."""
        limit = self.pool.max_requests_per_connection
        if self.is_retired or (limit and client.served >= limit):
            client.close()
        elif not self._wake(client):
            self.idle.append(client)

    def gone(self, client: Http1Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self.circuit.connections -= 1
            self._wake(None)
        if client in self.idle:
            self.idle.remove(client)

    def retire(self) -> None:
        """The endpoint is no more: exchanges under way finish, nothing new goes there."""
        self.is_retired = True
        for client in list(self.idle):
            client.close()
        self.http2.retire()

    def close_idle(self, before: float) -> None:
        """Close what nobody has used since then; the oldest stand in front."""
        while self.idle and self.idle[0].idle_since < before:
            self.idle[0].close()
        self.http2.close_idle(before)

    def _wake(self, client: Http1Client | None) -> bool:
        """Give the first who waits a connection, or word that one may be made; whether anybody waited."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(client)
                return True
        return False
