"""Termination of tunnels: each CONNECT becomes an inner connection to a port of a service that this waypoint serves.

Only the authority selects the service; no header of an inner request can change it. An unknown authority is answered
with 404 and the reason in `proxy-status` (RFC 9209). A port that declares HTTP is served in the version with which the
client begins. A port that declares another protocol is opaque. A port that declares nothing is detected from its first
bytes, and is opaque if there are none.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import cast

from l4.config.settings import Section
from l4.discovery.workload import AppProtocol
from l4.hbone.server import IncomingTunnel
from l4.net.client_hello import ClientHello
from l4.net.copy import reset_on_close
from policies.attributes import RequestHead
from waypoint.config.snapshot import Destination, why_not_served
from waypoint.data_path import Connection, DataPath
from waypoint.exchange import Exchange
from waypoint.http.events import Body, Downstream, RequestSink
from waypoint.http.grpc_web import GrpcWeb, is_grpc_web
from waypoint.http.h2_server import Http2Server
from waypoint.http.server import QUIET_SECONDS, Http1Server
from waypoint.http.settings import HttpSettings
from waypoint.http.sniff import Sniffed, is_http2, sniff
from waypoint.inbound.tcp import cut_denied, serve_opaque
from waypoint.replies import refused

log = logging.getLogger(__name__)

_OPAQUE = frozenset({AppProtocol.TCP, AppProtocol.TLS})
_MAX_SILENT = 1024


@dataclass(frozen=True, slots=True)
class SniffSettings(Section):
    title = "Undeclared ports"

    sniff_seconds: float = 5.0
    """Time for the client of an undeclared port to begin. Then the port carries TCP, where servers may speak first
    (MeshConfig.protocolDetectionTimeout, which is off in Istio)."""


class Terminator:
    """Pass its `connect` to an HboneServer. It keeps track of inner connections, to drain them."""

    def __init__(self, path: DataPath) -> None:
        self.path = path
        self.http = path.settings.of(HttpSettings)
        self.sniff_seconds = path.settings.of(SniffSettings).sniff_seconds
        self._fronts: dict[Http1Server | Http2Server | Undecided, Connection] = {}
        self._silent: set[tuple[str, int]] = set()
        self._is_draining = False
        path.holder.subscribe(lambda _: self._judge_again())

    def connect(self, incoming: IncomingTunnel) -> None:
        """Decide on a CONNECT."""
        authority = (incoming.request.authority.host, incoming.request.authority.port)
        snapshot = self.path.holder.current
        destination = snapshot.destination(authority)
        if destination is None:
            reason = why_not_served(snapshot, authority)
            log.info("CONNECT %s from %s refused: %s", incoming.request.authority, incoming.peer.identity, reason)
            status = f'pywaypoint; error=destination_not_found; details="{reason}"'
            incoming.refuse(404, [(b"proxy-status", status.encode())])
            return
        connection = Connection(self.path, incoming.peer, authority, incoming.request.baggage)
        is_tls = destination.app_protocol is AppProtocol.TLS
        if destination.app_protocol in _OPAQUE and not _needs_server_name(connection, destination):
            self.path.spawn(serve_opaque(connection, _Tunnel(incoming), is_tls=is_tls))
        else:
            front = self.front(connection, destination)
            if incoming.accept(front) is None:
                self.closed(front)

    def front(self, connection: Connection, destination: Destination) -> "Undecided":
        """Return the protocol for an accepted inner connection."""
        front = Undecided(self, connection, destination)
        self._fronts[front] = connection
        if self._is_draining:
            self.path.loop.call_soon(front.close_when_idle)
        elif destination.is_leaving:
            front.announce_close()
        return front

    def serve(
        self, connection: Connection, destination: Destination, sniffed: Sniffed, *, is_announced: bool = False
    ) -> asyncio.Protocol:
        """Return the HTTP server for an inner connection. `is_announced`: tell its client that we are stopping."""
        is_web = destination.app_protocol is AppProtocol.GRPC_WEB
        begin = partial(_begin_grpc_web if is_web else Exchange, connection)
        kind = Http2Server if sniffed is Sniffed.HTTP2 else Http1Server
        server = kind(self.path.settings, begin, partial(refused, connection), self.closed)
        self._fronts[server] = connection
        if self._is_draining:
            self.path.loop.call_soon(server.close_when_idle)
        elif is_announced:
            self.path.loop.call_soon(server.announce_close)
        return server

    def closed(self, front: "Http1Server | Http2Server | Undecided") -> None:
        self._fronts.pop(front, None)

    def silent(self, authority: tuple[str, int]) -> None:
        """Warn once that clients of an undeclared port wait for the server to send first."""
        if authority not in self._silent and len(self._silent) < _MAX_SILENT:
            self._silent.add(authority)
            seconds = self.sniff_seconds
            advice = "declare appProtocol: tcp on the Service's port to avoid the wait"
            log.warning(
                "a client of %s:%d sent nothing for %g s and is treated as TCP; %s", *authority, seconds, advice
            )

    def announce(self) -> None:
        """Tell clients of existing connections that we are stopping, without closing them.

        Clients that connect afterwards are not told yet, because they could not go elsewhere until all clients know.
        """
        for front in list(self._fronts):
            front.announce_close()

    def drain(self) -> None:
        """Let exchanges finish, and close idle connections."""
        self._is_draining = True
        for front in list(self._fronts):
            front.close_when_idle()

    def _judge_again(self) -> None:
        """After a change, end active requests and connections that are no longer allowed, and let clients go whose
        service is leaving or has left."""
        snapshot = self.path.holder.current
        for front, connection in list(self._fronts.items()):
            if not isinstance(front, Undecided):
                front.policies_changed()
            destination = snapshot.destination(connection.authority)
            if destination is None:
                front.close_when_idle()
            elif destination.is_leaving:
                front.announce_close()
        cut_denied(self.path)


def _begin_grpc_web(connection: Connection, downstream: Downstream, head: RequestHead, body: Body) -> RequestSink:
    if not is_grpc_web(head):
        return Exchange(connection, downstream, head, body)
    translation = GrpcWeb(downstream, head)
    translation.translate(Exchange(connection, translation, head, translation.body(body)))
    return translation


class _Tunnel:
    """A CONNECT that is answered when its destination has been connected. Implements `tcp.Near`."""

    def __init__(self, incoming: IncomingTunnel) -> None:
        self._incoming = incoming

    def accept(self, protocol: asyncio.Protocol) -> bool:
        return self._incoming.accept(protocol) is not None

    def refuse(self, status: int) -> None:
        self._incoming.refuse(403 if status == 403 else 503)


class Undecided(asyncio.Protocol):
    """Holds the first bytes of an inner connection until they reveal its protocol, at most a request line.

    Implements `tcp.Near` for connections that turn out to be opaque.
    """

    __slots__ = (
        "_connection",
        "_data",
        "_destination",
        "_has_ended",
        "_hello",
        "_is_announced",
        "_is_lost",
        "_is_undeclared",
        "_since",
        "_terminator",
        "_timer",
        "_transport",
    )

    def __init__(self, terminator: Terminator, connection: Connection, destination: Destination) -> None:
        self._terminator = terminator
        self._connection = connection
        self._destination = destination
        self._is_undeclared = destination.app_protocol is AppProtocol.UNKNOWN
        self._data = b""
        self._has_ended = False
        self._is_lost = False
        self._is_announced = False
        self._since = terminator.path.loop.time()
        self._hello = ClientHello() if _needs_server_name(connection, destination) else None
        self._timer: asyncio.TimerHandle | None = None

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        later = self._terminator.path.loop.call_later
        if self._hello is not None:
            self._timer = later(self._terminator.sniff_seconds, self._decide, Sniffed.OPAQUE)
        elif self._destination.app_protocol in _OPAQUE:
            self._decide(Sniffed.OPAQUE)
        elif self._is_undeclared:
            self._timer = later(self._terminator.sniff_seconds, self._waited_long_enough)
        else:
            self._timer = later(self._terminator.http.idle_http_seconds, self.close_when_idle)

    def data_received(self, data: bytes) -> None:
        is_first = not self._data
        self._data += data
        if self._timer is None:
            return
        if self._hello is not None:
            sniffed = None if self._hello.feed(data) else Sniffed.OPAQUE
        elif self._is_undeclared:
            sniffed = sniff(self._data)
        elif (is_it := is_http2(self._data)) is None:
            sniffed = None
        else:
            sniffed = Sniffed.HTTP2 if is_it else Sniffed.HTTP1
        if sniffed is not None:
            self._decide(sniffed)
        elif is_first and not self._is_undeclared and self._hello is None:
            self._timer.cancel()
            head_seconds = self._terminator.http.head_seconds
            self._timer = self._terminator.path.loop.call_later(head_seconds, self._decide, Sniffed.HTTP1)

    def eof_received(self) -> bool:
        self._has_ended = True
        if self._timer is not None:
            if not self._is_undeclared and self._hello is None:
                return False
            self._decide(Sniffed.OPAQUE)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self._stop()

    # -- tcp.Near --------------------------------------------------------------------------------------------------

    def accept(self, protocol: asyncio.Protocol) -> bool:
        if self._is_lost:
            return False
        self._hand_over(protocol)
        if self._has_ended:
            protocol.eof_received()
        else:
            self._transport.resume_reading()
        return True

    def refuse(self, status: int) -> None:
        reset_on_close(self._transport.get_extra_info("socket"))
        self._transport.abort()

    # -- inside ----------------------------------------------------------------------------------------------------

    def announce_close(self) -> None:
        self._is_announced = True

    def close_when_idle(self) -> None:
        """A connection with data is left to its server; a new one is given a moment to begin."""
        if self._timer is not None and not self._data:
            self._timer.cancel()
            self._timer = self._terminator.path.loop.call_at(self._since + QUIET_SECONDS, self._close)

    def _close(self) -> None:
        if self._data:
            self._decide(Sniffed.OPAQUE)
        else:
            self._stop()
            self._transport.close()

    def _waited_long_enough(self) -> None:
        if not self._data:
            self._terminator.silent(self._connection.authority)
        self._decide(Sniffed.OPAQUE)

    def _decide(self, sniffed: Sniffed) -> None:
        self._stop()
        if sniffed is Sniffed.OPAQUE:
            self._transport.pause_reading()
            is_tls = self._destination.app_protocol is AppProtocol.TLS
            name = self._hello.server_name if self._hello is not None else ""
            self._terminator.path.spawn(serve_opaque(self._connection, self, is_tls=is_tls, server_name=name))
        else:
            terminator = self._terminator
            self._hand_over(
                terminator.serve(self._connection, self._destination, sniffed, is_announced=self._is_announced)
            )

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._data:
            protocol.data_received(self._data)
            self._data = b""

    def _stop(self) -> None:
        self._terminator.closed(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _needs_server_name(connection: Connection, destination: Destination) -> bool:
    """Whether the ClientHello decides where the connection goes."""
    if destination.app_protocol is not AppProtocol.TLS:
        return False
    return destination.hosts is not None or destination.opaque_for(connection.peer).needs_server_name
