"""A worker: everything that carries requests, from the listening socket to connections to endpoints.

A process has what exists once (signals, operator ports, configuration, certificates, logs), and gives shared parts to
its workers. Each worker has its own live snapshot, clusters, buckets, tunnels, metrics, readiness and tasks, so that
workers never wait for each other. The program, the tests and the benchmarks all build workers with `assemble`.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from l4 import version
from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.hbone.driver import Driver
from l4.hbone.pool import HbonePool
from l4.hbone.server import HboneServer
from l4.hbone.settings import HboneSettings
from l4.identity.source import OwnCertificate, WorkloadCertificate
from l4.net import pressure
from l4.net.capacity import Capacity
from l4.net.sockets import Socket
from l4.net.tasks import Tasks
from l4.readiness import Readiness
from l4.telemetry.access_log import AccessLog
from l4.telemetry.expiry import MetricsSettings, expire
from l4.telemetry.loop_lag import measure
from l4.telemetry.metrics import LOOP_LAG, MeshMetrics
from l4.telemetry.samples import MetricsSnapshot
from policies.telemetry import Collector
from waypoint.authentication.settings import TokenSettings
from waypoint.authentication.tokens import Tokens
from waypoint.config.snapshot import Snapshot, Statuses
from waypoint.config.transitions import Record, Transitions
from waypoint.data_path import DataPath
from waypoint.filters.filter import Environment
from waypoint.filters.live import LiveFilters
from waypoint.http.settings import HttpSettings
from waypoint.inbound.sandwich import ProxyServer
from waypoint.inbound.tcp import report_bytes
from waypoint.inbound.terminate import Terminator
from waypoint.metrics import waypoint_metrics
from waypoint.process.loading import load_for
from waypoint.replica import Replica
from waypoint.telemetry.buckets import HistogramSettings
from waypoint.telemetry.exchanges import ACTIVE_CONNECTIONS, ACTIVE_REQUESTS, Telemetry
from waypoint.telemetry.log_settings import AccessLogSettings
from waypoint.telemetry.recorder import Recorder
from waypoint.upstream.clusters import Clusters
from waypoint.upstream.events import counted_in
from waypoint.upstream.originate import Originator
from waypoint.upstream.settings import UpstreamSettings
from waypoint.upstream.state import CLUSTER_STATE, show_numbers
from waypoint.upstream.trials import try_unreachable

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Tracer


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts shared by the workers of a process. `local_ip` is the source address of connections to endpoints."""

    settings: Settings
    certificate: OwnCertificate
    local_ip: str | None = None
    access_log: AccessLog | None = None
    tracer: "Tracer | None" = None
    recorder: Recorder | None = None
    collectors: "Mapping[Collector, Tracer]" = field(default_factory=dict)
    replica: Replica | None = None
    """What is counted together with other workers, if there are any."""


@dataclass(eq=False)
class Worker:
    """Created by `assemble`. `serve` starts it, `put_in_force` changes the configuration, `drain` and `close`
    end it."""

    parts: Parts
    readiness: Readiness
    metrics: MeshMetrics
    tasks: Tasks
    holder: Holder[Snapshot]
    pool: HbonePool
    path: DataPath
    terminator: Terminator
    capacity: Capacity
    transitions: Transitions = field(default_factory=Transitions)
    _statuses: Statuses | None = None
    _prepared: tuple[Statuses, Record] | None = None
    _servers: list[HboneServer | ProxyServer] = field(default_factory=list)
    _loops: list["asyncio.Task[None]"] = field(default_factory=list)

    @property
    def connection_count(self) -> int:
        """Number of connections from clients."""
        return sum(server.connection_count for server in self._servers)

    @property
    def drivers(self) -> list[Driver]:
        """HBONE connections from clients."""
        return [driver for server in self._servers if isinstance(server, HboneServer) for driver in server.drivers]

    def snapshot(self) -> MetricsSnapshot:
        """Take a snapshot of the metrics. May be called from any thread."""
        self.metrics.of(ACTIVE_REQUESTS).labels(()).value = self.path.exchanges
        self.metrics.of(ACTIVE_CONNECTIONS).labels(()).value = self.connection_count
        return self.metrics.snapshot()

    def prepare(self, snapshot: Snapshot) -> None:
        """Do what takes long, in a thread, before `put_in_force` with the same snapshot."""
        load_for(snapshot)
        self._prepare_statuses(snapshot.statuses)

    def put_in_force(self, snapshot: Snapshot) -> None:
        """Use this snapshot for new requests. It does not await, so no request sees a partial change."""
        path = self.path
        path.clusters.reconcile(snapshot)
        path.filters.reconcile(snapshot)
        path.tokens.reconcile(snapshot)
        self.holder.swap(snapshot)
        path.clusters.retire_unknown(snapshot)
        if self.parts.replica is not None:
            self.parts.replica.tell(self.metrics, self.readiness)

    def serve(self, sock: Socket, proxy_sock: Socket | None = None) -> HboneServer:
        """Accept HBONE on `sock`, and the PROXY protocol on `proxy_sock`."""
        settings, path = self.parts.settings, self.path
        server = HboneServer(
            sock,
            certificate=self.parts.certificate.get,
            trust_domains=settings.of(Mesh).trust_domains,
            settings=settings,
            on_connect=self.terminator.connect,
            on_refused=self.metrics.count_refusal,
            capacity=self.capacity,
        )
        self._servers.append(server)
        if proxy_sock is not None:
            self._servers.append(ProxyServer(proxy_sock, path, self.terminator, self.capacity))
        self.parts.certificate.source.on_change(self._cut_revoked)
        keep, clusters, originator = self.tasks.keep, path.clusters, path.originator
        self._loops += (
            keep(
                "following TLS files",
                lambda: originator.follow_tls_files(lambda sentence: self.readiness.concern("TLS files", sentence)),
            ),
            keep("counting bytes of open connections", lambda: report_bytes(path)),
            keep("showing destinations' numbers", lambda: show_numbers(clusters, self.metrics.of(CLUSTER_STATE))),
            keep("measuring the event loop", lambda: measure(self.metrics.of(LOOP_LAG).labels(()))),
            keep("trying unreachable endpoints", lambda: try_unreachable(clusters, originator, self.tasks.spawn)),
        )
        expiry_seconds = settings.of(MetricsSettings).metrics_expiry_seconds
        if expiry_seconds:
            forget = path.telemetry.forget_bound
            self._loops.append(keep("expiring metrics", lambda: expire(self.metrics, expiry_seconds, forget)))
        self.readiness.done("listener")
        return server

    def relieve(self, level: pressure.Level) -> None:
        """Reduce memory use and load according to the memory level."""
        settings = self.parts.settings
        if level is not pressure.Level.CALM:
            self.path.clusters.close_idle(settings.of(UpstreamSettings).upstream_idle_http_seconds / 10)
        self.path.max_exchanges = 0 if level >= pressure.Level.SCARCE else settings.of(HttpSettings).max_exchanges
        self.capacity.is_shut = level >= pressure.Level.EXHAUSTED

    def announce(self) -> None:
        """Tell clients that the worker will stop. It keeps serving."""
        self.terminator.announce()

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, let exchanges finish for `seconds`, then close the rest."""
        await asyncio.gather(*(server.leave_to_successor() for server in self._servers))
        self.terminator.drain()
        await asyncio.gather(*(server.drain(seconds) for server in self._servers))

    async def close(self) -> None:
        """Cancel active work, and release everything."""
        await self.tasks.close()
        await self.release()

    async def release(self) -> None:
        """End loops, and close connections to endpoints and policy services. Tasks of requests end by themselves."""
        for loop in self._loops:
            loop.cancel()
        self.path.clusters.close()
        self.path.tokens.close()
        await self.pool.close()

    def _cut_revoked(self, renewed: WorkloadCertificate) -> None:
        if renewed.revocations is not None:
            for server in self._servers:
                if isinstance(server, HboneServer):
                    server.cut_revoked(renewed.revocations)
            self.pool.cut_revoked(renewed.revocations)

    def _prepare_statuses(self, statuses: Statuses) -> None:
        if statuses is self._statuses or (self._prepared is not None and statuses is self._prepared[0]):
            return  # only endpoints changed, or it is done
        conditions = (it for status in statuses for it in status.conditions_by_place())
        self._prepared = statuses, self.transitions.following(conditions, datetime.now(UTC))

    def _record(self, snapshot: Snapshot) -> None:
        self._prepare_statuses(snapshot.statuses)
        if self._prepared is not None:
            self._statuses, record = self._prepared
            self._prepared = None
            self.transitions.record(record)


def assemble(parts: Parts) -> Worker:
    """Return a worker without configuration and listener. Call it in its event loop."""
    settings = parts.settings
    metrics, readiness = waypoint_metrics(version.installed(), settings.of(HistogramSettings)), Readiness({"listener"})
    tasks = Tasks(metrics.count_loop_failure, readiness.concern)
    telemetry = Telemetry(metrics, parts.access_log, settings.of(AccessLogSettings))
    holder = Holder(Snapshot("", Registry()))
    pool = HbonePool(settings, metrics.count_refusal)
    originator = Originator(pool, parts.certificate, settings, parts.local_ip)
    holder.subscribe(originator.reconcile)
    clusters = Clusters(settings, tasks, counted_in(metrics), parts.replica)
    upstream = settings.of(UpstreamSettings)
    environment = Environment(metrics, settings, upstream, originator, tasks.spawn, holder, parts.replica)
    path = DataPath(
        holder=holder,
        clusters=clusters,
        tokens=Tokens(settings.of(TokenSettings), tasks.keep),
        originator=originator,
        telemetry=telemetry,
        tracer=parts.tracer,
        settings=settings,
        spawn=tasks.spawn,
        loop=asyncio.get_running_loop(),
        filters=LiveFilters(environment),
        recorder=parts.recorder,
        collectors=parts.collectors,
    )
    worker = Worker(
        parts,
        readiness,
        metrics,
        tasks,
        holder,
        pool,
        path,
        Terminator(path),
        Capacity(settings.of(HboneSettings).max_connections),
    )
    holder.subscribe(worker._record)
    holder.subscribe(lambda snapshot: telemetry.sources.reconcile(snapshot.registry))
    return worker
