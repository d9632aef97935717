"""The waypoint program: process-wide resources, and the workers that use them. It builds, starts and drains everything.

A process has signals, operator ports, the configuration, the certificate, logs and a memory limit. Its workers carry
requests (`waypoint.process.worker`). They share the event loop, so the command line starts one. Ready means: the whole
configuration was understood, the Gateway and a certificate exist, and every worker accepts HBONE.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
import time

from l4 import program, signals, version
from l4.admin import OperatorAddresses
from l4.config.settings import Settings
from l4.discovery.mesh import Mesh
from l4.hbone.settings import DrainSettings
from l4.identity.source import NoCertificate, OwnCertificate
from l4.kubernetes.credentials import CredentialsError
from l4.net import pressure
from l4.net.listener import bind
from l4.net.memory import give_back, give_back_unused
from l4.net.tasks import Tasks
from l4.silence import Silence
from l4.telemetry.access_log import open_access_log
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import ProcessLog
from l4.xds.metrics import METRICS as XDS
from policies.host_port import host_port
from waypoint.config.leaving import Leaving
from waypoint.config.pipeline import Pipeline
from waypoint.config.settings import ConfigSettings
from waypoint.config.snapshot import Snapshot
from waypoint.metrics import COMPONENT
from waypoint.process.answering import LocalWorker
from waypoint.process.certificate import own_certificate
from waypoint.process.following import Following
from waypoint.process.knowing import Knowing, knowing_of
from waypoint.process.options import RunOptions
from waypoint.process.supervisor import Supervisor
from waypoint.process.worker import Parts, assemble
from waypoint.settings import SECTIONS, ProcessSettings
from waypoint.telemetry.log_format import InvalidFormat
from waypoint.telemetry.recorder import CannotRecord, Recorder, RecorderSettings
from waypoint.telemetry.tracing import Tracers
from waypoint.telemetry.tracing_settings import InvalidTracing

log = logging.getLogger(__name__)

_GC_THRESHOLDS = (20_000, 20, 20) if sys.version_info < (3, 14) else (20_000,)
"""Exchanges leave no reference cycles, so the garbage collector may run less often than by default.

From Python 3.14 on, the second number is the size of an increment, for which the default is right.
"""
_LOOK_SECONDS = 1.0
_SWITCH_SECONDS = 0.001
"""Maximum time that the compiling thread holds the interpreter while requests wait; Python's default is 5 ms."""


class Waypoint:
    """One process that serves one Gateway. Create it inside its event loop."""

    def __init__(
        self,
        options: RunOptions,
        settings: Settings,
        environment: dict[str, str],
        process_log: ProcessLog,
        certificate: OwnCertificate,
        knowing: Knowing,
        workers: int = 1,
    ) -> None:
        self._options = options
        self._settings = settings
        self._stopping = signals.Stopping()

        self._certificate = certificate
        self._metrics = MeshMetrics(COMPONENT, version.installed(), XDS)
        knowing.show(self._metrics)
        self._access_log = open_access_log(options.access_log)
        gateway, mesh = options.gateway, settings.of(Mesh)
        self._tracers = Tracers(
            environment,
            f"{gateway.name}.{gateway.namespace}",
            {
                "istio.canonical_service": gateway.name,
                "istio.canonical_revision": "latest",
                "istio.namespace": gateway.namespace,
                "istio.mesh_id": mesh.trust_domain,
                "istio.cluster_id": mesh.cluster_id,
            },
        )
        self._recorder = Recorder(options.record, settings.of(RecorderSettings)) if options.record else None
        self._metrics.show_dropped_lines("process", process_log.drops.by_reason)
        if self._access_log is not None:
            self._metrics.show_dropped_lines("access", self._access_log.drops.by_reason)
        if self._recorder is not None:
            self._metrics.show_dropped_lines("recording", self._recorder.drops.by_reason)
        instance_ip = settings.of(ConfigSettings).instance_ip
        source_ip = options.source_ip(instance_ip)
        tracers = self._tracers
        parts = Parts(settings, certificate, source_ip, self._access_log, tracers.own, self._recorder, tracers.others)
        self._workers = [assemble(parts) for _ in range(workers)]
        answering = [LocalWorker(f"worker {number}", it) for number, it in enumerate(self._workers, start=1)]
        self._supervisor = Supervisor(
            answering,
            self._metrics,
            {"configuration", "certificate"},
            self._stopping.begin,
            {
                "version": version.installed(),
                "gateway": str(options.gateway),
                "identity": str(certificate.identity),
                "listen": host_port(*options.listen),
            },
            lambda: self._following.problems,
        )
        readiness = self._supervisor.readiness
        self._tasks = Tasks(self._metrics.count_loop_failure, readiness.concern)
        self._silence = Silence(log, readiness, self._metrics, lambda: knowing.source.silent_seconds, knowing.server)
        served, own_ip = (options.gateway.namespace, options.gateway.name), instance_ip or options.own_ip
        leaving = Leaving(served, settings.of(ConfigSettings).unbound_seconds, time.monotonic)
        self._following = Following(
            knowing.source,
            Pipeline(served, settings, own_ip, join=knowing.join, leaving=leaving),
            put_in_force=self._put_in_force,
            readiness=readiness,
            metrics=self._metrics,
        )

    async def run(self) -> None:
        """Serve until told to stop, then drain. Raises an exception if it cannot start."""
        signals.follow(self._stopping, self._access_log)
        options = self._options
        sockets = [self._bind() for _ in self._workers]
        await self._supervisor.start(OperatorAddresses(options.metrics, options.readiness, options.admin))
        await self._following.begin()
        for worker, (sock, proxy_sock) in zip(self._workers, sockets, strict=True):
            worker.serve(sock, proxy_sock)
        keep = self._tasks.keep
        keep("following the configuration", self._following.watch)
        keep("letting go of Services that have left", self._following.let_go)
        keep("telling the age of the configuration", self._silence.follow)
        keep("analyzing the configuration", self._following.analyze)
        self._certificate.source.on_change(lambda renewed: self._show_certificate())
        keep("following the certificate", self._certificate.source.watch)
        keep("looking after the certificate", self._look_after_certificate)
        keep("giving memory back", give_back_unused)
        self._watch_memory()
        gc.collect()
        gc.freeze()  # exempt all long-lived objects from garbage collection
        gc.set_threshold(*_GC_THRESHOLDS)
        sys.setswitchinterval(_SWITCH_SECONDS)
        log.info("the waypoint of Gateway %s accepts HBONE on %s:%d", options.gateway, *options.listen)
        await self._stopping.wait()
        await self._drain()

    def _bind(self) -> tuple[socket.socket, socket.socket | None]:
        """Return listening sockets for one worker. The kernel distributes connections over all workers."""
        listen, proxy_listen = self._options.listen, self._options.proxy_listen
        return bind(*listen, reuse_port=True), bind(*proxy_listen, reuse_port=True) if proxy_listen else None

    def _put_in_force(self, snapshot: Snapshot) -> None:
        self._tracers.reconcile(snapshot.collectors)
        for worker in self._workers:
            worker.put_in_force(snapshot)

    async def _drain(self) -> None:
        """Report not ready first, keep accepting for the drain delay, then finish active exchanges."""
        log.info("stopping: %d exchanges are active", sum(worker.path.exchanges for worker in self._workers))
        self._supervisor.stopping()
        for worker in self._workers:
            worker.announce()
        await asyncio.sleep(self._settings.of(ProcessSettings).drain_delay_seconds)
        drain_seconds = self._settings.of(DrainSettings).drain_seconds
        await asyncio.gather(*(worker.drain(drain_seconds) for worker in self._workers))
        await self._tasks.close()
        await self._following.close()
        await asyncio.gather(*(worker.close() for worker in self._workers))
        await self._supervisor.close()
        if self._access_log is not None:
            self._access_log.close()
        if self._recorder is not None:
            self._recorder.close()
        await asyncio.to_thread(self._tracers.close)

    def _watch_memory(self) -> None:
        limit = pressure.memory_limit(self._settings.of(ProcessSettings).memory_limit_bytes)
        if limit is None:
            return

        def changed(level: pressure.Level) -> None:
            for worker in self._workers:
                worker.relieve(level)
            if level is not pressure.Level.CALM:
                give_back()

        self._tasks.keep("watching memory", lambda: pressure.watch(limit, changed))

    async def _look_after_certificate(self) -> None:
        while True:
            self._show_certificate()
            await asyncio.sleep(_LOOK_SECONDS)

    def _show_certificate(self) -> None:
        """Report the validity of our certificate. Without a valid one, the process is not ready."""
        source, readiness = self._certificate.source, self._supervisor.readiness
        if (seconds := source.seconds_left) is not None:
            self._metrics.certificate_expires(seconds)
        readiness.concern("certificate", source.concern)
        try:
            self._certificate.get()
        except NoCertificate:
            readiness.pending.add("certificate")
        else:
            readiness.done("certificate")


def run(options: RunOptions, workers: int = 1) -> None:
    """Run the program. If it cannot start, it exits with a message."""
    environment = dict(os.environ)

    async def main(process_log: ProcessLog) -> None:
        settings = Settings.from_environment(environment, SECTIONS)
        knowing, certificate = knowing_of(options, settings), own_certificate(options, settings)
        await Waypoint(options, settings, environment, process_log, certificate, knowing, workers).run()

    program.run("waypoint", main, CannotRecord, CredentialsError, InvalidFormat, InvalidTracing)
