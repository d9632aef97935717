"""The waypoint program: the only place that knows every part. Build, wire, start, drain.

Ready means: all of the configuration was understood, the Gateway and a certificate are there, and HBONE is accepted.
"""

import asyncio
import gc
import logging
import os
import sys
from datetime import UTC, datetime
from functools import partial

import uvloop

from l4 import signals, version
from l4.admin import OperatorAddresses, OperatorPorts, PortUnavailable
from l4.config.holder import Holder
from l4.config.settings import InvalidSetting, Settings
from l4.discovery.registry import Registry
from l4.hbone.pool import HbonePool
from l4.hbone.server import HboneServer
from l4.identity.certificate import InvalidCertificate
from l4.identity.files import FileStore
from l4.identity.source import NoCertificate, OwnCertificate, WorkloadCertificate
from l4.net import descriptors, pressure
from l4.net.capacity import Capacity
from l4.net.listener import CannotListen, bind
from l4.net.memory import give_back, give_back_unused
from l4.net.tasks import Tasks
from l4.telemetry.access_log import CannotOpenLog, open_access_log
from l4.telemetry.process_log import ProcessLog
from l4.telemetry.tracing import start_tracer
from l4.telemetry.tracing_settings import InvalidTracing, TracingSettings
from waypoint.ask.page import EXPLAIN_PATH, EXPLAIN_SHOWS, explain_page
from waypoint.authentication.tokens import Tokens
from waypoint.config.dump import dump
from waypoint.config.snapshot import Snapshot
from waypoint.config.transitions import Transitions
from waypoint.data_path import DataPath
from waypoint.inbound.sandwich import ProxyServer
from waypoint.inbound.terminate import Terminator
from waypoint.live import LivePolicies
from waypoint.metrics import waypoint_metrics
from waypoint.process.following import Following, own_ip
from waypoint.process.options import RunOptions
from waypoint.settings import SECTIONS
from waypoint.telemetry.exchanges import Telemetry
from waypoint.telemetry.recorder import CannotRecord, Recorder, RecorderSettings
from waypoint.upstream.clusters import Clusters
from waypoint.upstream.originate import Originator
from waypoint.upstream.state import CLUSTER_STATE, CLUSTERS_PATH, CLUSTERS_SHOWS, clusters_page, show_numbers
from waypoint.upstream.trials import try_unreachable

log = logging.getLogger(__name__)

_GC_THRESHOLDS = (20_000, 20, 20) if sys.version_info < (3, 14) else (20_000,)
"""An exchange leaves no cycle behind, so there is little to find: look for it less often than Python does by itself.
From 3.14 on old objects are looked at in steps: there the second number is a step's size, and Python's own is right."""
_LOOK_SECONDS = 1.0
_SWITCH_SECONDS = 0.001
"""How long the thread that compiles a configuration may keep requests waiting at each turn; Python's own is 5 ms."""


class Waypoint:
    """One process that serves one Gateway. Made inside its event loop."""

    def __init__(
        self,
        options: RunOptions,
        settings: Settings,
        environment: dict[str, str],
        process_log: ProcessLog,
        certificate: OwnCertificate,
    ) -> None:
        self._options = options
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()

        self._certificate = certificate
        self._holder = Holder(Snapshot("", Registry()))
        self._metrics = waypoint_metrics(version.installed())
        self._access_log = open_access_log(options.access_log)
        self._tracer = start_tracer(
            TracingSettings.parse(environment, f"{options.gateway.name}.{options.gateway.namespace}")
        )
        self._recorder = Recorder(options.record, settings.of(RecorderSettings)) if options.record else None
        self._metrics.show_dropped_lines("process", process_log.drops.by_reason)
        if self._access_log is not None:
            self._metrics.show_dropped_lines("access", self._access_log.drops.by_reason)
        if self._recorder is not None:
            self._metrics.show_dropped_lines("recording", self._recorder.drops.by_reason)
        self._tasks = Tasks(self._metrics.count_loop_failure, self._concern)
        self._pool = HbonePool(settings, self._metrics.count_refusal)
        self._originator = Originator(self._pool, certificate, settings, own_ip(options.listen[0]))
        self._holder.subscribe(self._originator.reconcile)
        self._transitions = Transitions()
        self._holder.subscribe(self._record)
        telemetry = Telemetry(self._metrics, self._access_log)
        self._clusters = Clusters(settings, self._tasks.keep, telemetry.count_event)
        self._tokens = Tokens(settings, self._tasks.keep)
        self._path = DataPath(
            holder=self._holder,
            clusters=self._clusters,
            tokens=self._tokens,
            originator=self._originator,
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

        self._following = Following(
            options,
            settings,
            holder=self._holder,
            clusters=self._clusters,
            live=self._path.live,
            tokens=self._tokens,
            readiness=self._operators.readiness,
            metrics=self._metrics,
        )

    async def run(self) -> None:
        """Serve until told to stop, then drain. Raises what makes starting impossible."""
        signals.follow(self._stop, self._access_log)
        options = self._options
        sock = bind(*options.listen, reuse_port=True)
        proxy_sock = bind(*options.proxy_listen, reuse_port=True) if options.proxy_listen else None
        await self._operators.start(OperatorAddresses(options.metrics, options.readiness, options.admin))
        self._following.begin()
        capacity = Capacity(self._settings.max_connections)
        server = HboneServer(
            sock,
            certificate=self._certificate.get,
            trust_domains=self._settings.trust_domains,
            settings=self._settings,
            on_connect=self._terminator.connect,
            on_refused=self._metrics.count_refusal,
            capacity=capacity,
        )
        sandwich = ProxyServer(proxy_sock, self._path, self._terminator, capacity) if proxy_sock else None
        self._operators.readiness.done("listener")
        keep = self._tasks.keep
        keep("following the configuration", self._following.watch)
        keep("analyzing the configuration", self._following.analyze)
        self._certificate.source.on_change(partial(self._renewed, server))
        keep("following the certificate", self._certificate.source.watch)
        keep("looking after the certificate", self._look_after_certificate)
        concern = partial(self._operators.readiness.concern, "TLS files")
        keep("following TLS files", lambda: self._originator.follow_tls_files(concern))
        keep("showing destinations' numbers", lambda: show_numbers(self._clusters, self._metrics.of(CLUSTER_STATE)))
        keep(
            "trying unreachable endpoints",
            lambda: try_unreachable(self._clusters, self._path.originator, self._tasks.spawn),
        )
        keep("giving memory back", give_back_unused)
        self._watch_memory(capacity)
        gc.collect()
        gc.freeze()  # what is alive now stays; the collector need not look at it again
        gc.set_threshold(*_GC_THRESHOLDS)
        sys.setswitchinterval(_SWITCH_SECONDS)
        log.info("the waypoint of Gateway %s accepts HBONE on %s:%d", options.gateway, *options.listen)
        await self._stopping.wait()
        await self._drain(server, sandwich)

    def _renewed(self, server: HboneServer, renewed: WorkloadCertificate) -> None:
        self._show_certificate()
        if renewed.revocations is not None:
            server.cut_revoked(renewed.revocations)
            self._pool.cut_revoked(renewed.revocations)

    async def _drain(self, server: HboneServer, sandwich: ProxyServer | None) -> None:
        """Not ready first; new connections for a while longer, until everybody knows; then finish what is under way."""
        log.info("stopping: %d exchanges are under way", self._path.exchanges)
        self._operators.stopping()
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

    async def _look_after_certificate(self) -> None:
        while True:
            self._show_certificate()
            await asyncio.sleep(_LOOK_SECONDS)

    def _show_certificate(self) -> None:
        """Show how long our certificate is good for; without one we are not ready."""
        source, readiness = self._certificate.source, self._operators.readiness
        if (seconds := source.seconds_left) is not None:
            self._metrics.certificate_expires(seconds)
        readiness.concern("certificate", source.concern)
        try:
            self._certificate.get()
        except NoCertificate:
            readiness.pending.add("certificate")
        else:
            readiness.done("certificate")

    def _stop(self) -> None:
        """The first signal drains, the second ends the process at once."""
        if self._stopping.is_set():
            log.warning("stopping at once")
            logging.shutdown()
            os._exit(1)
        self._stopping.set()

    def _concern(self, loop: str, sentence: str) -> None:
        self._operators.readiness.concern(loop, sentence)

    async def _dump(self) -> object:
        return dump(self._holder.current, self._transitions.since)

    def _record(self, snapshot: Snapshot) -> None:
        conditions = (it for status in snapshot.statuses for it in status.conditions_by_place())
        self._transitions.record(conditions, datetime.now(UTC))


def certificate_of_files(options: RunOptions) -> OwnCertificate:
    """The certificate of the command line's files. Raises InvalidCertificate."""
    files = FileStore(options.certificate, options.private_key, options.trust_bundle, options.revocations)
    files.load()
    return OwnCertificate(files, files.current.identity)


def run(options: RunOptions) -> None:
    """The program. Ends the process with a sentence when it can't start."""
    with ProcessLog() as process_log:
        logging.getLogger("hpack").setLevel(logging.WARNING)
        descriptors.raise_limit()
        environment = dict(os.environ)
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it prints would wait for whoever reads standard error

        async def main() -> None:
            settings = Settings.from_environment(environment, SECTIONS)
            await Waypoint(options, settings, environment, process_log, certificate_of_files(options)).run()

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
