"""Serve short connections on an open port: a limited number at once, each for a limited time.

Used for the operator ports. Their clients connect, send one request and leave; nobody needs thousands of idle
connections. A full port therefore closes one connection for each new one: the oldest connection without a request, of
the address with the most connections. A prober that sends its request at once is answered, however many idle
connections there are.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import cast

from l4.net.listener import Listener
from l4.net.sockets import Socket

ASK_SECONDS = 5.0
"""Time limit for receiving the request head."""
ANSWER_SECONDS = 60.0
"""Time limit for the rest: enough for 20 MB of metrics through a slow port-forward."""


class VisitServer:
    """Gives each connection its own protocol.

    `on_refused` receives "operator_connections" for each connection closed in favor of another, and "operator_seconds"
    for each that took too long.
    """

    def __init__(
        self,
        sock: Socket,
        protocol: Callable[[], asyncio.Protocol],
        max_visits: int,
        on_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.on_refused = on_refused
        self._protocol = protocol
        self._max_visits = max_visits
        self._loop = asyncio.get_running_loop()
        self._visits: dict[_Visit, None] = {}  # oldest first
        self._accepting: set[asyncio.Task[object]] = set()
        self._listener = Listener(sock, self._accepted, is_reserved=True)

    def __len__(self) -> int:
        return len(self._visits)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    @property
    def is_shared(self) -> bool:
        """Whether another process also listens at this address."""
        return self._listener.is_shared

    def close(self) -> None:
        """Stop accepting connections."""
        self._listener.close()

    def end_streams(self) -> None:
        """Cancel the tasks of answers that last as long as the client listens."""
        for visit in self._visits:
            visit.end_stream()

    def abort(self) -> None:
        """Close all connections."""
        self._listener.close()
        for visit in list(self._visits):
            visit.end()

    def asked(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that the connection's request was received, which starts the time limit for the answer."""
        for visit in self._visits:
            if visit.transport is transport:
                visit.asked()

    def streams(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that the answer lasts as long as the client listens, without a time limit: when the client has left, the
        current task is cancelled."""
        for visit in self._visits:
            if visit.transport is transport:
                visit.streams()

    def gone(self, visit: "_Visit") -> None:
        self._visits.pop(visit, None)
        self._listener.resume()

    def _accepted(self, sock: socket.socket, address: tuple[str, int]) -> None:
        visit = _Visit(self, self._protocol(), address[0])
        self._visits[visit] = None
        if len(self._visits) > self._max_visits:
            self._listener.pause()  # until one has ended
            self.on_refused("operator_connections")
            self._least_useful().end()
        task = self._loop.create_task(self._accept(visit, sock))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _accept(self, visit: "_Visit", sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: visit, sock)
        except OSError:
            sock.close()
            self.gone(visit)

    def _least_useful(self) -> "_Visit":
        visits = [visit for visit in self._visits if not visit.is_over]
        held = Counter(visit.ip for visit in visits)
        return max(visits[:-1], key=lambda visit: (held[visit.ip], not visit.has_asked))  # the oldest of equals


class _Visit(asyncio.Protocol):
    """Watches one connection, and passes all calls on to its `inner` protocol."""

    def __init__(self, server: VisitServer, inner: asyncio.Protocol, ip: str) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.ip = ip
        self.has_asked = False
        self.is_over = False
        self._server = server
        self._streaming: asyncio.Task[object] | None = None
        self._inner = inner
        self._timer = asyncio.get_running_loop().call_later(ASK_SECONDS, self._late)

    def asked(self) -> None:
        self.has_asked = True
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._late)

    def streams(self) -> None:
        self._timer.cancel()
        self._streaming = asyncio.current_task()

    def end_stream(self) -> None:
        if self._streaming is not None:
            self._streaming.cancel()

    def end(self) -> None:
        self.is_over = True
        self._timer.cancel()
        if self.transport is not None:
            cast(asyncio.Transport, self.transport).abort()

    def _late(self) -> None:
        self._server.on_refused("operator_seconds")
        self.end()

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._inner.connection_made(transport)
        if self.is_over:
            self.end()

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True
        self._timer.cancel()
        self._inner.connection_lost(error)
        self._server.gone(self)
        self.end_stream()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
