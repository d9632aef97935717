"""Opaque bytes: a tunnel to a port that carries no HTTP is joined to one endpoint of its service, as it is."""

import time
from random import random

from l4.hbone.server import IncomingTunnel
from l4.net.copy import Copy
from policies.verdict import ResponseFlag
from waypoint.config.snapshot import Destination
from waypoint.data_path import Connection
from waypoint.errors import ExchangeError
from waypoint.telemetry import ExchangeRecord


async def serve_opaque(connection: Connection, incoming: IncomingTunnel, destination: Destination) -> None:
    """Connect to an endpoint, answer the CONNECT, and copy; 503 when no endpoint can be reached."""
    path = connection.path
    cluster = path.clusters[destination.cluster]
    source = connection.source(path.holder.current)
    record = ExchangeRecord(time.time(), connection.peer, source, connection.authority, destination.service)
    record.cluster = destination.cluster
    started = time.perf_counter()
    live = cluster.pick(random)
    if live is None:
        record.flags = (ResponseFlag.NO_HEALTHY_UPSTREAM,)
        path.telemetry.record_tcp(record)
        incoming.refuse(503)
        return
    record.endpoint = live.endpoint
    series = path.telemetry.tcp_series(source, live.endpoint, destination.service)

    def done(error: Exception | None) -> None:
        live.active -= 1
        series.closed.add(1)
        series.received.add(copy.received)
        series.sent.add(copy.sent)
        record.bytes_received, record.bytes_sent = copy.received, copy.sent
        record.duration_ms = (time.perf_counter() - started) * 1000
        record.connection_termination_details = str(error or "")
        path.telemetry.record_tcp(record)

    copy = Copy(done)
    try:
        await path.originator.connect(live.endpoint, lambda: copy.far, cluster.config.connect_timeout_seconds)
    except ExchangeError as error:
        record.flags = (ResponseFlag.UPSTREAM_CONNECTION_FAILURE,)
        record.upstream_transport_failure_reason = error.reason
        path.telemetry.record_tcp(record)
        incoming.refuse(503)
        return
    live.active += 1
    series.opened.add(1)
    if incoming.accept(copy.near) is None:
        copy.abort(ConnectionResetError("the client gave up before the tunnel stood"))
