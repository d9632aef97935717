"""Outgoing CONNECT requests, from the request to the answer."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from l4.hbone.connect import ConnectRequest, InvalidConnect
from l4.hbone.errors import ConnectFailed, TunnelError, TunnelRefused
from l4.hbone.tunnel import Tunnel
from l4.http2.events import ResponseReceived
from l4.net.deadlines import Deadlines
from policies.attributes import Headers

_PROBE_SECONDS = 1.0


class Opener(Protocol):
    """The connection that opens the tunnels."""

    loop: asyncio.AbstractEventLoop

    def begin(self, headers: Headers) -> Tunnel:
        """Send a CONNECT. Raises StreamUnavailable."""

    def probe(self) -> None:
        """Send a PING that distinguishes a peer that is slow to answer from a dead one."""


class _Opening:
    """A CONNECT that waits for its answer."""

    __slots__ = ("_opener", "answered")

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self.answered: asyncio.Future[None] = opener.loop.create_future()

    def timed_out(self) -> None:
        self._opener.probe()


class Openings:
    __slots__ = ("_probes", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting: dict[int, _Opening] = {}
        self._probes = Deadlines(loop)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._waiting

    async def open(
        self, opener: Opener, request: ConnectRequest, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> Tunnel:
        try:
            headers = request.headers()
        except InvalidConnect as error:
            raise TunnelError(str(error)) from None
        tunnel = opener.begin(headers)
        opening = self._waiting[tunnel.stream_id] = _Opening(opener)
        self._probes.begin(opening, _PROBE_SECONDS)
        try:
            await opening.answered
        except BaseException:
            tunnel.abort()
            raise
        finally:
            self._probes.end(opening, _PROBE_SECONDS)
            self._waiting.pop(tunnel.stream_id, None)
        tunnel.start(protocol_factory())
        return tunnel

    def answer(self, event: ResponseReceived) -> bool:
        """Process the answer to a CONNECT. Returns whether the tunnel is established."""
        opening: _Opening | None = self._waiting.get(event.stream_id)
        if opening is None or opening.answered.done():
            return False
        status = int(dict(event.headers)[b":status"])
        if 200 <= status < 300:
            opening.answered.set_result(None)
            return True
        opening.answered.set_exception(TunnelRefused(f"the far side answered CONNECT with {status}", status))
        return False

    def fail(self, stream_id: int, error: ConnectFailed) -> None:
        """The stream of a CONNECT has ended without an answer."""
        opening: _Opening | None = self._waiting.get(stream_id)
        if opening is not None and not opening.answered.done():
            opening.answered.set_exception(error)
