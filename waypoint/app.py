"""The waypoint program: the only place that knows every part. Build, wire, start, drain.

    sources → documents → resources → registry → compile → clusters.reconcile → holder.swap → old clusters retire

A configuration goes live between two loop turns; an exchange that has begun keeps what it read. Ready means: the
Gateway and a certificate are there, and HBONE is accepted.
"""

import asyncio
import gc
import ipaddress
import logging
import os
import signal
import sys
from dataclasses import dataclass
from functools import partial

import uvloop

from l4 import version
from l4.admin import OperatorAddresses, OperatorPorts, PortUnavailable
from l4.config.doubts import Doubt, Understanding, concern
from l4.config.holder import Holder
from l4.config.resources import Decoder
from l4.config.settings import InvalidSetting, Settings
from l4.config.sources import Documents, FolderSource
from l4.discovery import kubernetes
from l4.discovery.registry import Registry
from l4.hbone.pool import HbonePool
from l4.hbone.server import HboneServer
from l4.identity.certificate import InvalidCertificate
from l4.identity.store import FileStore, WorkloadCertificate
from l4.net import descriptors, pressure
from l4.net.capacity import Capacity
from l4.net.listener import CannotListen, bind
from l4.net.memory import give_back, give_back_unused
from l4.net.tasks import Tasks
from l4.telemetry.access_log import CannotOpenLog, open_access_log
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import EACH, ProcessLog
from l4.telemetry.tracing import InvalidTracing, TracingSettings, start_tracer
from waypoint.ask.page import EXPLAIN_PATH, EXPLAIN_SHOWS, explain_page
from waypoint.config import compile as compiler
from waypoint.config.dump import dump
from waypoint.config.kinds import KINDS
from waypoint.config.snapshot import Snapshot
from waypoint.data_path import DataPath
from waypoint.live import LivePolicies
from waypoint.options import RunOptions
from waypoint.originate import Originator
from waypoint.recorder import CannotRecord, Recorder
from waypoint.sandwich import ProxyServer
from waypoint.telemetry import Telemetry
from waypoint.terminate import Terminator
from waypoint.tokens import Tokens
from waypoint.upstream.balancer import prepare
from waypoint.upstream.clusters import Clusters
from waypoint.upstream.state import CLUSTERS_PATH, CLUSTERS_SHOWS, clusters_page, show_numbers

log = logging.getLogger(__name__)

_GC_THRESHOLDS = (20_000, 20, 20)
"""An exchange leaves no cycle behind, so there is little to find: look for it less often than Python does by itself."""
_SWITCH_SECONDS = 0.001
"""How long the thread that compiles a configuration may keep requests waiting at each turn; Python's own is 5 ms."""


class Waypoint:
    """One process that serves one Gateway. Made inside its event loop."""

    def __init__(
        self, options: RunOptions, settings: Settings, environment: dict[str, str], process_log: ProcessLog
    ) -> None:
        self._options = options
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._told: frozenset[str] = frozenset()

        self._certificates = FileStore(
            options.certificate, options.private_key, options.trust_bundle, options.revocations
        )
        self._source = FolderSource(options.resources)
        self._decoder = Decoder(KINDS)
        self._understanding = Understanding()
        self._holder = Holder(Snapshot("", Registry()))
        self._metrics = MeshMetrics("proxy", version.installed())
        self._access_log = open_access_log(options.access_log)
        self._tracer = start_tracer(
            TracingSettings.parse(environment, f"{options.gateway.name}.{options.gateway.namespace}")
        )
        self._recorder = Recorder(options.record, settings) if options.record else None
        self._metrics.show_dropped_lines("process", process_log.drops.by_reason)
        if self._access_log is not None:
            self._metrics.show_dropped_lines("access", self._access_log.drops.by_reason)
        if self._recorder is not None:
            self._metrics.show_dropped_lines("recording", self._recorder.drops.by_reason)
        self._tasks = Tasks(self._metrics.count_loop_failure, self._concern)
        self._pool = HbonePool(settings, self._metrics.count_refusal)
        telemetry = Telemetry(self._metrics, self._access_log)
        self._clusters = Clusters(settings, self._tasks.keep, telemetry.count_event)
        self._tokens = Tokens(settings, self._tasks.keep)
        self._path = DataPath(
            holder=self._holder,
            clusters=self._clusters,
            tokens=self._tokens,
            originator=Originator(self._pool, lambda: self._certificates.current, settings, _own_ip(options.listen[0])),
            telemetry=telemetry,
            tracer=self._tracer,
            settings=settings,
            spawn=self._tasks.spawn,
            loop=self._loop,
            live=LivePolicies(self._metrics, self._tasks.spawn),
            recorder=self._recorder,
        )
        self._terminator = Terminator(self._path)
        self._operators = OperatorPorts(
            self._metrics,
            {"configuration", "certificate", "listener"},
            self._dump,
            self._stopping.set,
            {
                EXPLAIN_PATH: (EXPLAIN_SHOWS, explain_page(lambda: self._holder.current, settings)),
                CLUSTERS_PATH: (CLUSTERS_SHOWS, clusters_page(self._clusters, self._loop.time)),
            },
        )

    async def run(self) -> None:
        """Serve until told to stop, then drain. Raises what makes starting impossible."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        self._certificates.load()
        options = self._options
        sock = bind(*options.listen, reuse_port=True)
        proxy_sock = bind(*options.proxy_listen, reuse_port=True) if options.proxy_listen else None
        await self._operators.start(OperatorAddresses(options.metrics, options.readiness, options.admin))
        self._operators.readiness.done("certificate")
        self._apply(self._prepare(self._source.load()))
        capacity = Capacity(self._settings.max_connections)
        server = HboneServer(
            sock,
            certificate=self._certificates.usable,
            trust_domains=self._settings.trust_domains,
            settings=self._settings,
            on_connect=self._terminator.connect,
            on_refused=self._metrics.count_refusal,
            capacity=capacity,
        )
        sandwich = ProxyServer(proxy_sock, self._path, self._terminator, capacity) if proxy_sock else None
        self._operators.readiness.done("listener")
        keep = self._tasks.keep
        keep("following the configuration", lambda: self._source.watch(self._prepare, self._apply))
        self._certificates.on_change(partial(self._cut_revoked, server))
        keep("following the certificate", lambda: self._certificates.watch(self._attend))
        keep("showing destinations' numbers", lambda: show_numbers(self._clusters, self._metrics.cluster_states))
        keep("giving memory back", give_back_unused)
        self._watch_memory(capacity)
        gc.collect()
        gc.freeze()  # what is alive now stays; the collector need not look at it again
        gc.set_threshold(*_GC_THRESHOLDS)
        sys.setswitchinterval(_SWITCH_SECONDS)
        log.info("the waypoint of Gateway %s accepts HBONE on %s:%d", options.gateway, *options.listen)
        await self._stopping.wait()
        await self._drain(server, sandwich)

    def _cut_revoked(self, server: HboneServer, renewed: WorkloadCertificate) -> None:
        if renewed.revocations is not None:
            server.cut_revoked(renewed.revocations)
            self._pool.cut_revoked(renewed.revocations)

    async def _drain(self, server: HboneServer, sandwich: ProxyServer | None) -> None:
        """Not ready first; new connections for a while longer, until everybody knows; then finish what is under way."""
        log.info("stopping: %d exchanges are under way", self._path.exchanges)
        self._operators.readiness.pending.add("stopping")
        self._terminator.announce()
        await asyncio.sleep(self._settings.drain_delay_seconds)
        self._terminator.drain()
        servers = (server,) if sandwich is None else (server, sandwich)
        await asyncio.gather(*(it.drain(self._settings.drain_seconds) for it in servers))
        await self._tasks.close()
        self._clusters.close()
        await self._path.live.close()
        await self._pool.close()
        await self._operators.close()
        if self._access_log is not None:
            self._access_log.close()
        if self._recorder is not None:
            self._recorder.close()
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)

    def _watch_memory(self, capacity: Capacity) -> None:
        limit = pressure.memory_limit(self._settings.memory_limit_bytes)
        if limit is None:
            return

        def changed(level: pressure.Level) -> None:
            if level is not pressure.Level.CALM:
                self._clusters.close_idle(self._settings.upstream_idle_http_seconds / 10)
                give_back()
            self._path.max_exchanges = 0 if level >= pressure.Level.SCARCE else self._settings.max_exchanges
            capacity.is_shut = level >= pressure.Level.EXHAUSTED

        self._tasks.keep("watching memory", lambda: pressure.watch(limit, changed))

    def _attend(self) -> None:
        """Show how long our certificate is good for; without one we are not ready."""
        store, readiness = self._certificates, self._operators.readiness
        self._metrics.certificate_expires(store.seconds_left)
        readiness.concern("certificate", store.concern)
        if store.seconds_left > 0:
            readiness.done("certificate")
        else:
            readiness.pending.add("certificate")

    def _stop(self) -> None:
        """The first signal drains, the second ends the process at once."""
        if self._stopping.is_set():
            log.warning("stopping at once")
            logging.shutdown()
            os._exit(1)
        self._stopping.set()

    def _concern(self, loop: str, sentence: str) -> None:
        self._operators.readiness.concern(loop, sentence)

    # -- configuration ---------------------------------------------------------------------------------------------

    def _prepare(self, documents: Documents) -> "_Prepared":
        """Compile. Runs in a thread while requests go on, and while nothing else decodes."""
        decoded = self._decoder.decode(documents.documents)
        registry = kubernetes.registry_of(decoded.resources, self._mesh())
        gateway = self._options.gateway
        doubts = (*documents.doubts, *decoded.doubts)
        snapshot = compiler.compile(
            decoded.resources,
            registry,
            gateway=(gateway.namespace, gateway.name),
            problems=(*documents.problems, *decoded.problems),
            requires_reference_grants=self._settings.requires_reference_grants,
            own_ip=self._settings.instance_ip or _own_ip(self._options.listen[0]),
            trust_domains=self._settings.trust_domains,
            denied=self._understanding.take(doubts),
        )
        for config in snapshot.clusters.values():
            prepare(config)
        ignored = frozenset(f"ignored: {count} objects of kind {kind}" for kind, count in decoded.ignored.items())
        problems = frozenset(str(compiler.located(it)) for it in snapshot.problems)
        return _Prepared(snapshot, ignored, problems, doubts, is_understood=self._understanding.is_complete)

    def _apply(self, prepared: "_Prepared") -> None:
        """Make a new snapshot live. Nothing in here waits, so no request sees half of it."""
        snapshot = prepared.snapshot
        self._tell(prepared)
        readiness = self._operators.readiness
        readiness.concern("configuration files", concern(prepared.doubts))
        if snapshot.has_gateway and prepared.is_understood:
            readiness.done("configuration")
        if snapshot.version == self._holder.current.version:
            return
        self._clusters.reconcile(snapshot)
        self._path.live.reconcile(snapshot)
        self._tokens.reconcile(snapshot)
        self._holder.swap(snapshot)
        self._clusters.retire_unknown(snapshot)
        log.info("configuration %s is live: %d destinations", snapshot.version, len(snapshot.destinations))

    def _mesh(self) -> kubernetes.Mesh:
        settings = self._settings
        return kubernetes.Mesh(settings.trust_domain, settings.cluster_domain, settings.cluster_id, settings.network)

    def _tell(self, prepared: "_Prepared") -> None:
        """Each problem, and each kind that is not read, once; problems that are gone may come again."""
        for line in sorted(prepared.ignored - self._told):
            log.info("%s", line, extra=EACH)
        for line in sorted(prepared.problems - self._told):
            log.warning("%s", line, extra=EACH)
        self._told = prepared.ignored | prepared.problems
        self._metrics.config_problems.value = len(prepared.problems)

    def _dump(self) -> object:
        return dump(self._holder.current)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A snapshot to go live, and the lines to tell of it."""

    snapshot: Snapshot
    ignored: frozenset[str]
    problems: frozenset[str]
    doubts: tuple[Doubt, ...]
    is_understood: bool


def _own_ip(listen: str) -> str | None:
    """The address to connect from: the one we listen on, unless that is any."""
    return None if ipaddress.ip_address(listen).is_unspecified else listen


def run(options: RunOptions) -> None:
    """The program. Ends the process with a sentence when it can't start."""
    with ProcessLog() as process_log:
        logging.getLogger("hpack").setLevel(logging.WARNING)
        descriptors.raise_limit()
        environment = dict(os.environ)
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it prints would wait for whoever reads standard error

        async def main() -> None:
            await Waypoint(options, Settings.from_environment(environment), environment, process_log).run()

        try:
            uvloop.run(main())
        except (
            InvalidSetting,
            InvalidTracing,
            InvalidCertificate,
            CannotListen,
            CannotOpenLog,
            CannotRecord,
            PortUnavailable,
        ) as error:
            process_log.write(f"waypoint: {error}")
            sys.exit(1)
