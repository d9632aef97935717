"""An endpoint's live state: active attempts, connections and health.

If the destination's connection limit is reached, attempts wait here for a free connection, in order.
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
    """One live endpoint. `noted` is told whether a connection was established.

    `active` counts attempts. `idle` holds idle HTTP/1.1 connections, most recently used first to be taken. `weight` may
    be below the endpoint's weight during slow start.
    """

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
        """Return an idle connection or a stream for an immediate request, or None."""
        if is_http2:
            return self.http2.take()
        return self.idle.pop() if self.idle else None

    @property
    def is_left_alone(self) -> bool:
        return self.health.is_ejected or self.reach.is_avoided

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Surrounds a connection attempt and records its result. A slow attempt counts as failed before it ends."""
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
        """Number of connections of all HTTP versions."""
        return len(self._clients) + self.http2.count

    @property
    def may_connect(self) -> bool:
        return self.circuit.may_connect(len(self._clients))

    def opening(self, client: Http1Client) -> None:
        """Count a connection that is being opened. `gone` ends it in any case."""
        self._clients.add(client)
        self.circuit.begin_connection()

    async def wait(self, seconds: float) -> Http1Client | None:
        """Wait for a free connection. Returns None if a new one may be opened. Raises UpstreamOverflow."""
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
        return client if client in self._clients else None  # it may have broken in the meantime

    def free(self, client: Http1Client, now: float) -> None:
        """Keep a connection whose exchange has ended for the next one."""
        client.served += 1
        client.idle_since = now
        self.give_back(client)

    def give_back(self, client: Http1Client) -> None:
        """Return an unused connection."""
        limit = self.pool.max_requests_per_connection
        if self.is_retired or (limit and client.served >= limit):
            client.close()
        elif not self._waiting or not self._wake(client):
            self.idle.append(client)

    def gone(self, client: Http1Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self.circuit.end_connection()
            self._wake(None)
        if client in self.idle:
            self.idle.remove(client)

    def retire(self) -> None:
        """The endpoint was removed: active exchanges finish, and no new ones start."""
        self.is_retired = True
        for client in list(self.idle):
            client.close()
        self.http2.retire()

    def close_idle(self, before: float) -> None:
        """Close connections idle since `before`. `idle` is sorted from oldest to newest."""
        while self.idle and self.idle[0].idle_since < before:
            self.idle[0].close()
        self.http2.close_idle(before)

    def _wake(self, client: Http1Client | None) -> bool:
        """Give the first waiter a connection, or None to open one. Returns whether there was a waiter."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(client)
                return True
        return False
