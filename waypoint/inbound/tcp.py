"""Opaque connections: connect a non-HTTP inner connection to one endpoint of its service."""

import asyncio
import time
from random import random
from typing import Protocol

from l4.hbone.errors import TunnelReset
from l4.net.client_hello import ClientHello
from l4.net.copy import Copy
from l4.telemetry.tally import Tally
from policies.balancing.endpoint import Endpoint
from policies.balancing.hash_key import KeyKind
from policies.outcome import Ending, Outcome
from policies.retry import DEFAULT_RETRIES
from waypoint.admission.decide import decide_opaque, denial_of_bytes
from waypoint.config.snapshot import UNKNOWN_SERVICE
from waypoint.data_path import Connection, DataPath, Opaque
from waypoint.errors import AttemptFailed, ExchangeError, NoHealthyEndpoint, RouteNotFound, UpstreamOverflow
from waypoint.telemetry.exchanges import TcpSeries
from waypoint.telemetry.record import ExchangeRecord
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.endpoint import LiveEndpoint
from waypoint.upstream.events import ClusterEvent
from waypoint.upstream.settings import DnsSettings

_REACHED = Outcome(Ending.RESPONSE, 200)
REPORT_SECONDS = 5.0
"""Istio's interval (`tcpReportingDuration`)."""
_MAX_REPLACED = 3
"""Unused tunnels of one connection that may be lost."""


class Near(Protocol):
    """The client's connection, which waits until its destination has been connected."""

    def accept(self, protocol: asyncio.Protocol) -> bool:
        """Hand the connection over. Returns False if the client has given up."""

    def refuse(self, status: int) -> None:
        """Refuse the connection. `status` is for clients that can receive one."""


async def serve_opaque(connection: Connection, near: Near, *, is_tls: bool, server_name: str = "") -> None:
    """Connect to an endpoint, or to another one if that fails, and copy; refuse if none is reachable.

    `server_name` is the SNI of a TLS client, if it is known yet.
    """
    path = connection.path
    snapshot = path.holder.current
    destination = snapshot.destination(connection.authority)
    source = connection.source(snapshot)
    service = UNKNOWN_SERVICE if destination is None else destination.service
    record = ExchangeRecord(time.time(), connection.peer, source, connection.authority, service)
    record.policy = destination.telemetry if destination is not None else None
    started = time.perf_counter()

    held: LiveEndpoint | None = None  # None while a lost connection is replaced
    replaced = 0
    series: TcpSeries

    def let_go() -> None:
        nonlocal held
        if held is not None:
            held.active -= 1
            cluster.circuit.end_connection()
            held = None

    def is_replaced(error: Exception | None) -> bool:
        """The HBONE connection was lost before its tunnel was used: connect another one."""
        nonlocal replaced
        if not isinstance(error, TunnelReset) or error.code is not None or replaced == _MAX_REPLACED:
            return False
        replaced += 1
        let_go()
        path.spawn(replace(error))
        return True

    async def replace(lost: Exception) -> None:
        nonlocal held, series
        try:
            held = await _reach(connection, cluster, copy.far, record)
        except ExchangeError:
            copy.abort(lost)
            return
        if copy.is_over:  # already reported
            let_go()
            return
        series.closed.add(1)
        series = path.telemetry.tcp_series(record)
        series.opened.add(1)
        carried.received.counter, carried.sent.counter = series.received, series.sent

    def done(error: Exception | None) -> None:
        del path.opaque[copy]
        let_go()
        series.closed.add(1)
        carried.report(copy)
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
        decision = decide_opaque(destination, connection.peer, server_name, lambda chance: random())
        record.verdict = decision.verdict
        record.route_name = decision.rule.name if decision.rule is not None else ""
        if decision.cluster is None:
            raise decision.error or RouteNotFound()
        cluster = path.clusters[decision.cluster]
        if cluster.branches is not None:
            cluster = cluster.branches.at(connection.authority[0], server_name.encode(), snapshot.registry)
        record.cluster, record.service = decision.cluster, cluster.config.service
        held = await _reach(connection, cluster, copy.far, record)
    except ExchangeError as error:
        record.flags = (error.flag,) if error.flag else ()
        record.requested_server_name = server_name
        record.detail = error.detail
        record.upstream_transport_failure_reason = error.reason
        series = path.telemetry.tcp_series(record)
        series.opened.add(1)
        series.closed.add(1)
        path.telemetry.record_tcp(record)
        near.refuse(error.status)
        return
    series = path.telemetry.tcp_series(record)
    series.opened.add(1)
    carried = Opaque(connection, server_name, Tally(series.received), Tally(series.sent))
    copy.on_unused_lost = is_replaced
    path.opaque[copy] = carried
    if path.holder.current is not snapshot:
        cut_denied(path)
    if not near.accept(copy.near):
        copy.abort(ConnectionResetError("the client gave up before the connection was established"))


def cut_denied(path: DataPath) -> None:
    """Close opaque connections that are no longer allowed."""
    snapshot = path.holder.current
    for copy, it in list(path.opaque.items()):
        denial = denial_of_bytes(snapshot.destination(it.connection.authority), it.connection.peer, it.server_name)
        if denial is not None:
            copy.abort(ConnectionAbortedError(denial.detail))


async def report_bytes(path: DataPath) -> None:
    """Count the bytes of open connections every few seconds, until cancelled."""
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        for copy, it in path.opaque.items():
            it.report(copy)


async def _reach(
    connection: Connection, cluster: Cluster, far: asyncio.Protocol, record: ExchangeRecord
) -> LiveEndpoint:
    """Connect `far` to an endpoint, which then counts as active."""
    tried: set[Endpoint] = set()
    retries = 0
    source = cluster.config.balancing.key
    key = connection.peer.ip.encode() if source is not None and source.kind is KeyKind.SOURCE_IP else None
    while True:
        live = cluster.pick(random, tried, key)
        if live is None and cluster.is_awaited:
            await cluster.first_answer(connection.path.settings.of(DnsSettings).dns_timeout_seconds)
            live = cluster.pick(random, tried, key)
        if live is None:
            raise NoHealthyEndpoint
        if not cluster.circuit.may_connect(own=1):
            connection.path.clusters.note(ClusterEvent.CONNECTION_OVERFLOW, cluster.config.name)
            raise UpstreamOverflow
        record.endpoint = live.endpoint
        record.attempts += 1
        live.active += 1
        cluster.circuit.begin_connection()
        try:
            with live.connecting():
                await connection.path.originator.connect(live.endpoint, lambda: far, live.pool)
        except BaseException as error:
            live.active -= 1
            cluster.circuit.end_connection()
            if isinstance(error, AttemptFailed):
                cluster.record(live, Outcome(error.ending))
            if not isinstance(error, AttemptFailed) or retries == DEFAULT_RETRIES.attempts:
                raise
            tried.add(live.endpoint)
            await asyncio.sleep(DEFAULT_RETRIES.delay(retries + 1, random()))
            retries += 1
        else:
            cluster.record(live, _REACHED)
            return live
