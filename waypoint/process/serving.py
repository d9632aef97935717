"""What carries requests in one process: a worker, and the configuration, certificate, logs and memory limit for it.

Ready means: the whole configuration was understood, the Gateway and a certificate exist, and the worker accepts HBONE.
Operators are answered elsewhere: by the same process, or by the supervisor of several.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial

from l4 import version
from l4.config.documents import Problem
from l4.config.settings import Settings
from l4.discovery.mesh import Mesh
from l4.hbone.settings import DrainSettings
from l4.identity.source import NoCertificate, OwnCertificate
from l4.kubernetes.credentials import CredentialsError
from l4.net import pressure
from l4.net.memory import collect_rarely, give_back, give_back_unused
from l4.net.sockets import Socket
from l4.net.tasks import Tasks
from l4.readiness import Readiness, merge
from l4.silence import Silence
from l4.telemetry import samples
from l4.telemetry.access_log import open_access_log
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import ProcessLog
from l4.telemetry.samples import MetricsSnapshot
from l4.xds.metrics import METRICS as XDS
from waypoint.config.leaving import Leaving
from waypoint.config.pipeline import Pipeline
from waypoint.config.settings import ConfigSettings
from waypoint.config.snapshot import Snapshot
from waypoint.metrics import COMPONENT
from waypoint.process.answering import LocalWorker
from waypoint.process.following import Following
from waypoint.process.knowing import Knowing
from waypoint.process.options import RunOptions
from waypoint.process.worker import Parts, assemble
from waypoint.replica import Replica
from waypoint.settings import ProcessSettings
from waypoint.telemetry.dropped_spans import SPANS_DROPPED
from waypoint.telemetry.log_operators import InvalidFormat
from waypoint.telemetry.recorder import CannotRecord, Recorder, RecorderSettings
from waypoint.telemetry.tracing import Tracers
from waypoint.telemetry.tracing_settings import InvalidTracing, SpanTagSettings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
CANNOT_SERVE = (CannotRecord, CredentialsError, InvalidFormat, InvalidTracing)
"""What `Serving`, or what it is made of, raises if it cannot start, beside what every program does."""
_SWITCH_SECONDS = 0.001
"""Maximum time that the compiling thread holds the interpreter while requests wait; Python's default is 5 ms."""


class Serving:
    """Serves one Gateway. Create it inside its event loop. Raises an exception if it cannot start."""

    def __init__(
        self,
        options: RunOptions,
        settings: Settings,
        environment: Mapping[str, str],
        process_log: ProcessLog,
        certificate: OwnCertificate,
        knowing: Knowing,
        replica: Replica | None = None,
    ) -> None:
        self.metrics = MeshMetrics(COMPONENT, version.installed(), XDS)
        knowing.show(self.metrics)
        self.readiness = Readiness({"configuration", "certificate"})
        self._settings = settings
        self._replica = replica
        self._certificate = certificate
        self.access_log = open_access_log(options.access_log)
        gateway, mesh = options.gateway, settings.of(Mesh)
        tracers = self._tracers = Tracers(
            environment,
            f"{gateway.name}.{gateway.namespace}",
            {
                "istio.canonical_service": gateway.name,
                "istio.canonical_revision": "latest",
                "istio.namespace": gateway.namespace,
                "istio.mesh_id": mesh.trust_domain,
                "istio.cluster_id": mesh.cluster_id,
            },
            settings.of(SpanTagSettings).names,
        )
        self._recorder = Recorder(options.record, settings.of(RecorderSettings)) if options.record else None
        self.metrics.show_dropped_lines("process", process_log.drops.by_reason)
        if self.access_log is not None:
            self.metrics.show_dropped_lines("access", self.access_log.drops.by_reason)
        if self._recorder is not None:
            self.metrics.show_dropped_lines("recording", self._recorder.drops.by_reason)
        instance_ip = settings.of(ConfigSettings).instance_ip
        source_ip = options.source_ip(instance_ip)
        parts = Parts(
            *(settings, certificate, source_ip, self.access_log, tracers.own, self._recorder, tracers.others, replica)
        )
        self.worker = assemble(parts)
        for reason, value in tracers.dropped.by_reason.items():
            self.worker.metrics.of(SPANS_DROPPED).adopt((reason,), value)
        self._tasks = Tasks(self.metrics.count_loop_failure, self.readiness.concern)
        self._silence = Silence(
            log, self.readiness, self.metrics, lambda: knowing.source.silent_seconds, knowing.server
        )
        own_ip = instance_ip or options.own_ip
        names = gateway.namespace, gateway.name
        leaving = Leaving(names, settings.of(ConfigSettings).unbound_seconds, time.monotonic)
        self._following = Following(
            knowing.source,
            Pipeline(names, settings, own_ip, join=knowing.join, leaving=leaving),
            prepare=self.worker.prepare,
            put_in_force=self._put_in_force,
            readiness=self.readiness,
            metrics=self.metrics,
        )

    async def start(self, sock: Socket, proxy_sock: Socket | None = None, *, analyzes: bool = True) -> None:
        """Serve what is accepted on these sockets. `analyzes`: log what `waypoint analyze` finds."""
        await self._following.begin()
        self.worker.serve(sock, proxy_sock)
        keep = self._tasks.keep
        keep("following the configuration", self._following.watch)
        keep("letting go of Services that have left", self._following.let_go)
        keep("telling the age of the configuration", self._silence.follow)
        if analyzes:
            keep("analyzing the configuration", self._following.analyze)
        self._certificate.source.on_change(lambda renewed: self._show_certificate())
        keep("following the certificate", self._certificate.source.watch)
        keep("looking after the certificate", self._look_after_certificate)
        keep("giving memory back", give_back_unused)
        self._watch_memory()
        collect_rarely()
        sys.setswitchinterval(_SWITCH_SECONDS)

    async def drain(self) -> None:
        """Announce the end, keep accepting for the drain delay, finish active exchanges, and release everything."""
        worker, settings = self.worker, self._settings
        log.info("stopping: %d exchanges are active", worker.path.exchanges)
        worker.announce()
        await asyncio.sleep(settings.of(ProcessSettings).drain_delay_seconds)
        await worker.drain(settings.of(DrainSettings).drain_seconds)
        await self._tasks.close()
        await self._following.close()
        await worker.close()
        if self.access_log is not None:
            self.access_log.close()
        if self._recorder is not None:
            self._recorder.close()
        await asyncio.to_thread(self._tracers.close)

    def _put_in_force(self, snapshot: Snapshot) -> None:
        self._tracers.reconcile(snapshot.collectors)
        self.worker.put_in_force(snapshot)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Problems of the live configuration, and what its analysis found."""
        return self._following.problems

    def _watch_memory(self) -> None:
        limit = pressure.memory_limit(self._settings.of(ProcessSettings).memory_limit_bytes)
        if limit is None:
            return

        def changed(level: pressure.Level) -> None:
            self.worker.relieve(level)
            if level is not pressure.Level.CALM:
                give_back()

        replica = self._replica
        if replica is None:
            self._tasks.keep("watching memory", lambda: pressure.watch(lambda: limit, changed))
        else:
            share = partial(replica.share_of_memory, limit)
            self._tasks.keep("watching memory", lambda: pressure.watch(share, changed, pressure.private))

    async def _look_after_certificate(self) -> None:
        while True:
            self._show_certificate()
            await asyncio.sleep(_LOOK_SECONDS)

    def _show_certificate(self) -> None:
        """Report the validity of our certificate. Without a valid one, the process is not ready."""
        source, readiness = self._certificate.source, self.readiness
        if (seconds := source.seconds_left) is not None:
            self.metrics.certificate_expires(seconds)
        readiness.concern("certificate", source.concern)
        try:
            self._certificate.get()
        except NoCertificate:
            readiness.pending.add("certificate")
        else:
            readiness.done("certificate")


class ServingWorker(LocalWorker):
    """Answers for all that a process serves with, not only for its worker.

    `has_metrics`: the answer has the process's metrics, too.
    """

    def __init__(self, name: str, serving: Serving, *, has_metrics: bool) -> None:
        super().__init__(name, serving.worker)
        self._serving = serving
        self._has_metrics = has_metrics

    async def readiness(self) -> Readiness:
        return merge((self._serving.readiness, await super().readiness()))

    async def metrics(self) -> MetricsSnapshot:
        its = await super().metrics()
        if not self._has_metrics:
            return its
        return samples.merge((await asyncio.to_thread(self._serving.metrics.snapshot), its))

    async def problems(self) -> Sequence[Problem]:
        return self._serving.problems
