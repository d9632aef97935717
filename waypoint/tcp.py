"""Opaque bytes: an inner connection that carries no HTTP is joined to one endpoint of its service, as it is."""

import asyncio
import time
from random import random
from typing import Protocol

from l4.net.client_hello import ClientHello
from l4.net.copy import Copy
from policies.balancing.endpoint import Endpoint
from policies.retry import DEFAULT_RETRIES
from waypoint.config.snapshot import UNKNOWN_SERVICE
from waypoint.data_path import Connection
from waypoint.decide import decide_opaque
from waypoint.errors import AttemptFailed, ExchangeError, NoHealthyEndpoint, RouteNotFound
from waypoint.telemetry import ExchangeRecord
from waypoint.upstream.cluster import Cluster, LiveEndpoint


class Near(Protocol):
    """The client's connection, which waits until its destination has been reached."""

    def accept(self, protocol: asyncio.Protocol) -> bool:
        """Hand it over; False when the client has given up meanwhile."""

    def refuse(self) -> None: ...


async def serve_opaque(connection: Connection, near: Near, *, is_tls: bool, server_name: str = "") -> None:
    """Connect to an endpoint, to another one if that fails, and copy; refuse when none can be reached. `server_name` is
    what a TLS client asked for, as far as it is known by now."""
    path = connection.path
    snapshot = path.holder.current
    destination = snapshot.destinations.get(connection.authority)
    source = connection.source(snapshot)
    service = UNKNOWN_SERVICE if destination is None else destination.service
    record = ExchangeRecord(time.time(), connection.peer, source, connection.authority, service)
    started = time.perf_counter()

    def done(error: Exception | None) -> None:
        live.active -= 1
        series.closed.add(1)
        series.received.add(copy.received)
        series.sent.add(copy.sent)
        record.bytes_received, record.bytes_sent = copy.received, copy.sent
        record.requested_server_name = server_name or (hello.server_name if hello else "")
        record.duration_ms = (time.perf_counter() - started) * 1000
        record.connection_termination_details = str(error or "")
        path.telemetry.record_tcp(record)

    copy = Copy(done)
    hello = ClientHello() if is_tls and not server_name else None
    if hello is not None:
        copy.near.tap = hello.feed
    try:
        decision = decide_opaque(destination, connection.peer, server_name, random)
        record.route_name = decision.rule.name if decision.rule is not None else ""
        if decision.cluster is None:
            raise decision.error or RouteNotFound()
        cluster = path.clusters[decision.cluster]
        record.cluster, record.service = decision.cluster, cluster.config.service
        live = await _reach(connection, cluster, copy.far, record)
    except ExchangeError as error:
        record.flags = (error.flag,) if error.flag else ()
        record.requested_server_name = server_name
        record.detail = error.detail
        record.upstream_transport_failure_reason = error.reason
        path.telemetry.record_tcp(record)
        near.refuse()
        return
    series = path.telemetry.tcp_series(source, live.endpoint, cluster.config.service)
    series.opened.add(1)
    if not near.accept(copy.near):
        copy.abort(ConnectionResetError("the client gave up before the connection stood"))


async def _reach(
    connection: Connection, cluster: Cluster, far: asyncio.Protocol, record: ExchangeRecord
) -> LiveEndpoint:
    """Connect `far` to an endpoint, which counts as busy from then on."""
    tried: set[Endpoint] = set()
    retries = 0
    while True:
        live = cluster.pick(random, tried)
        if live is None:
            raise NoHealthyEndpoint
        record.endpoint = live.endpoint
        live.active += 1
        try:
            await connection.path.originator.connect(live.endpoint, lambda: far, cluster.config.connect_timeout_seconds)
        except BaseException as error:
            live.active -= 1
            if not isinstance(error, AttemptFailed) or retries == DEFAULT_RETRIES.attempts:
                raise
            tried.add(live.endpoint)
            await asyncio.sleep(DEFAULT_RETRIES.delay(retries + 1, random()))
            retries += 1
        else:
            return live
