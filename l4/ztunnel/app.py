"""The ztunnel program: follows the configuration and serves every pod of its node."""

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from l4 import program, signals, version
from l4.admin import OperatorAddresses, OperatorPorts
from l4.config.documents import Problem
from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.configuration import ConfigurationReport, source_of
from l4.discovery import kubernetes
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.hbone.settings import DrainSettings
from l4.identity.files import FolderStore
from l4.identity.options import AuthorityOptions, CertificateFolder
from l4.identity.signing_settings import SigningSettings
from l4.identity.source import CertificateSource
from l4.kubernetes.credentials import CredentialsError
from l4.kubernetes.options import KubernetesOptions
from l4.net.memory import collect_rarely, give_back_unused
from l4.net.tasks import Tasks
from l4.node.receiver import Receiver
from l4.problems_page import PROBLEMS_PATH, PROBLEMS_SHOWS, problems_page
from l4.settings import SECTIONS
from l4.silence import Silence
from l4.telemetry.access_log import open_access_log
from l4.telemetry.expiry import MetricsSettings, expire
from l4.telemetry.loop_lag import measure
from l4.telemetry.metrics import LOOP_LAG
from l4.telemetry.process_log import ProcessLog
from l4.xds.options import DiscoveryOptions
from l4.ztunnel.capture import OwnAddresses
from l4.ztunnel.dump import dump, state_of
from l4.ztunnel.in_pod import InPods
from l4.ztunnel.knowing import FromObjects, Knowing, Known
from l4.ztunnel.metrics import show_counts, ztunnel_metrics
from l4.ztunnel.node import Node
from l4.ztunnel.pods import Pods
from l4.ztunnel.traffic import Traffic

log = logging.getLogger(__name__)

_HOUSEKEEPING_SECONDS = 1.0
"""Far below any scrape interval, so that byte rates are smooth."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Command-line options of `ztunnel run`."""

    resources: tuple[Path, ...] | KubernetesOptions | DiscoveryOptions
    node: str
    certificates: CertificateFolder | AuthorityOptions
    metrics: Address
    readiness: Address
    admin: Address
    access_log: str
    hbone_port: int
    revocations: Path | None = None
    agent: Path | None = None


class Ztunnel:
    """The L4 proxy of one node. Create it inside its event loop."""

    def __init__(
        self,
        options: RunOptions,
        settings: Settings,
        process_log: ProcessLog,
        certificates: CertificateSource,
        knowing: Knowing,
    ) -> None:
        self._options = options
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._stopping = signals.Stopping()
        self._knowing = knowing
        self._applied = 0
        """The number of the configuration that is live."""
        self._registry = Holder(Registry())
        self._certificates = certificates
        self._metrics = ztunnel_metrics(version.installed())
        knowing.show(self._metrics)
        self._access_log = open_access_log(options.access_log)
        self._metrics.show_dropped_lines("process", process_log.drops.by_reason)
        if self._access_log is not None:
            self._metrics.show_dropped_lines("access", self._access_log.drops.by_reason)
        self._node = Node(self._registry, self._certificates, Traffic(self._metrics, self._access_log), settings)
        self._node.finder = knowing.finder(self._registry)
        in_pods = None
        if options.agent is not None:
            in_pods = InPods(lambda: self._announced(in_pods), lambda *name: self._pods.serves(*name))
        self._pods = Pods(self._node, options.node, in_pods or OwnAddresses(options.hbone_port))
        pending = {"configuration"} if options.agent is None else {"configuration", "pods"}
        pages = {PROBLEMS_PATH: (PROBLEMS_SHOWS, problems_page(self._problems))}
        self._operators = OperatorPorts(
            self._metrics, pending, self._dump, self._stopping.begin, pages, about=self._about
        )
        self._receiver = None
        if options.agent is not None and in_pods is not None:
            self._receiver = Receiver(options.agent, in_pods, self._lacks_pods)
        self._report = ConfigurationReport(log, self._operators.readiness, self._metrics)
        readiness = self._operators.readiness
        self._silence = Silence(log, readiness, self._metrics, lambda: knowing.silent_seconds, knowing.server)

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        signals.follow(self._stopping, self._access_log)
        options = self._options
        await self._operators.start(OperatorAddresses(options.metrics, options.readiness, options.admin))
        self._apply(await self._knowing.load())
        collect_rarely()
        tasks = Tasks(self._metrics.count_loop_failure, self._operators.readiness.concern)
        tasks.keep("following the configuration", lambda: self._knowing.watch(self._apply))
        tasks.keep("telling the age of the configuration", self._silence.follow)
        tasks.keep("following the certificates", self._certificates.watch)
        if self._receiver is not None:
            tasks.keep("following the node's agent", self._receiver.follow)
        tasks.keep("keeping house", self._keep_house)
        tasks.keep("measuring the event loop", lambda: measure(self._metrics.of(LOOP_LAG).labels(())))
        expiry_seconds = self._settings.of(MetricsSettings).metrics_expiry_seconds
        if expiry_seconds:
            tasks.keep(
                "expiring metrics", lambda: expire(self._metrics, expiry_seconds, self._node.traffic.known.forget)
            )
        tasks.keep("giving memory back", give_back_unused)
        await self._stopping.wait()
        await self._drain(tasks)

    def _announced(self, in_pods: InPods | None) -> None:
        """The agent has announced other pods than before."""
        self._pods.update(self._registry.current)
        if self._node.finder is not None and in_pods is not None:
            self._node.spawn(self._node.finder.pods(in_pods.names))

    def _lacks_pods(self, sentence: str) -> None:
        """Be ready only while all pods that the agent has announced are served."""
        readiness = self._operators.readiness
        readiness.concern("pods", sentence)
        if sentence:
            readiness.pending.add("pods")
        else:
            readiness.done("pods")

    async def _drain(self, tasks: Tasks) -> None:
        """Let connections finish. Policies, revocations and pods that are removed still end them."""
        log.info("stopping: %d connections are open", self._node.traffic.open_count)
        self._operators.stopping()
        await self._pods.drain(self._settings.of(DrainSettings).drain_seconds)
        await tasks.close()
        await self._knowing.close()
        for task in self._node.tasks:
            task.cancel()
        await asyncio.gather(*self._node.tasks, return_exceptions=True)
        await self._operators.close()
        if self._access_log is not None:
            self._access_log.close()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            self._node.traffic.report()
            show_counts(self._metrics, self._pods, self._node.traffic)
            self._pods.retry()
            if self._receiver is not None:
                self._receiver.report()
            if (seconds := self._certificates.seconds_left) is not None:
                self._metrics.certificate_expires(seconds)
            self._operators.readiness.concern("certificates", self._certificates.concern)

    def _apply(self, known: Known) -> None:
        update = known.update if known.number == self._applied + 1 else None
        self._registry.swap(known.registry)
        if update is None or known.policies is not self._node.policies.current:
            self._node.policies.swap(known.policies)
        if update is None:
            self._pods.update(known.registry)
        else:
            self._pods.follow(update)
        self._report.tell(known.understood, known.problems, known.lack)
        self._metrics.config_changed(time.time())
        self._applied = known.number

    async def _about(self) -> Mapping[str, object]:
        registry, flows = self._registry.current, self._node.traffic.flows()
        return {
            "program": "ztunnel",
            "version": version.installed(),
            "node": self._options.node,
            "pods": len(self._pods.proxies),
            "pods_pending": len(self._pods.unserved),
            "connections": sum(map(len, flows.values())),
            "workloads": len(registry.workloads),
            "services": len(registry.services),
        }

    async def _problems(self) -> Iterable[Problem]:
        return self._report.problems

    async def _dump(self) -> Mapping[str, object]:
        return await asyncio.to_thread(dump, state_of(self._node, self._pods))


def knowing_of(options: RunOptions, settings: Settings) -> Knowing:
    """Return what the command line names. Raises CredentialsError."""
    mesh = settings.of(Mesh)
    if isinstance(options.resources, DiscoveryOptions):
        from l4.xds.feed import DiscoveryFeed  # only now: gRPC takes time and memory to load
        from l4.xds.server import server_of
        from l4.ztunnel.discovering import FromControlPlane

        server = server_of(options.resources, settings, "ztunnel", options.node)
        feed = DiscoveryFeed(server, mesh, is_on_demand=options.resources.is_on_demand)
        return FromControlPlane(feed, mesh, options.node)
    return FromObjects(source_of(options.resources, kubernetes.KINDS), mesh, options.node)


def certificates_of(options: RunOptions, settings: Settings) -> CertificateSource:
    """Return the source that the command line names."""
    its = options.certificates
    if isinstance(its, CertificateFolder):
        return FolderStore(its.folder, its.trust_bundle, options.revocations)
    from l4.identity.istio_ca import signed_by  # only now: gRPC takes time and memory to load

    signing, cluster_id = settings.of(SigningSettings), settings.of(Mesh).cluster_id
    return signed_by(its, cluster_id, options.revocations, signing, impersonates=True)


def run(options: RunOptions) -> None:
    """Run the program. If it cannot start, it exits with a message."""

    async def main(process_log: ProcessLog) -> None:
        settings = Settings.from_environment(os.environ, SECTIONS)
        knowing = knowing_of(options, settings)
        certificates = certificates_of(options, settings)
        await Ztunnel(options, settings, process_log, certificates, knowing).run()

    program.run("ztunnel", main, CredentialsError)
