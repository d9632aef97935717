"""Where tunnels end: each CONNECT becomes an inner connection to a port of a service that this waypoint serves.

The authority alone says which service is meant; no header of an inner request can change that. An authority that we
do not serve is answered 404, with the reason in `proxy-status` (RFC 9209). HTTP is read; what a port declares to be
something else passes as it is.
"""

import logging

from l4.discovery.workload import AppProtocol
from l4.hbone.server import IncomingTunnel
from policies.attributes import RequestHead
from waypoint.config.snapshot import Snapshot
from waypoint.data_path import Connection, DataPath
from waypoint.exchange import Exchange, refused
from waypoint.http.events import Body, RequestSink
from waypoint.http.server import Http1Server
from waypoint.tcp import serve_opaque

log = logging.getLogger(__name__)

_HTTP = frozenset({AppProtocol.HTTP, AppProtocol.UNKNOWN})


class Terminator:
    """Give its `connect` to an HboneServer. Knows the inner connections that stand, to drain them."""

    def __init__(self, path: DataPath) -> None:
        self._path = path
        self._servers: set[Http1Server] = set()
        self._is_draining = False

    def connect(self, incoming: IncomingTunnel) -> None:
        """Decide about a CONNECT."""
        authority = (incoming.request.authority.host, incoming.request.authority.port)
        snapshot = self._path.holder.current
        destination = snapshot.destinations.get(authority)
        if destination is None:
            reason = _why_not_served(snapshot, authority)
            log.info("CONNECT %s from %s refused: %s", incoming.request.authority, incoming.peer.identity, reason)
            status = f'pywaypoint; error=destination_not_found; details="{reason}"'
            incoming.refuse(404, [(b"proxy-status", status.encode())])
            return
        connection = Connection(self._path, incoming.peer, authority, incoming.request.baggage)
        if destination.app_protocol in _HTTP:
            self._serve_http(connection, incoming)
        else:
            self._path.spawn(serve_opaque(connection, incoming, destination))

    def drain(self) -> None:
        """Let exchanges finish; connections without one are closed now."""
        self._is_draining = True
        for server in list(self._servers):
            server.close_when_idle()

    def _serve_http(self, connection: Connection, incoming: IncomingTunnel) -> None:
        def begin(server: Http1Server, head: RequestHead, body: Body) -> RequestSink:
            return Exchange(connection, server, head, body)

        server = Http1Server(
            self._path.settings, begin, lambda error: refused(connection, error), on_closed=self._servers.discard
        )
        self._servers.add(server)
        incoming.accept(server)
        if self._is_draining:
            server.close_when_idle()


def _why_not_served(snapshot: Snapshot, authority: tuple[str, int]) -> str:
    host, port = authority
    registry = snapshot.registry
    service = registry.service_at(host) or registry.services.get(host)
    if service is None:
        kind = "a workload; this waypoint serves services" if registry.workload_at(host) else "no known service"
        return f"{host} is {kind}"
    if port not in {declared.port for declared in service.ports}:
        return f"service {service.hostname} has no port {port}"
    return f"service {service.hostname} is not bound to this waypoint"
