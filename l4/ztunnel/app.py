"""The ztunnel program: follows the configuration and serves every pod of its node."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import uvloop

from l4 import signals, version
from l4.admin import OperatorAddresses, OperatorPorts, PortUnavailable
from l4.config.documents import Problem
from l4.config.doubts import Doubt, Understanding, concern
from l4.config.holder import Holder
from l4.config.resources import Decoded, Decoder, Resources
from l4.config.settings import InvalidSetting, Settings
from l4.config.sources import Documents, FolderSource
from l4.config.telling import Telling
from l4.discovery import kubernetes
from l4.discovery.mesh import Mesh
from l4.discovery.objects import NodeObject
from l4.discovery.registry import Registry
from l4.discovery.workload_policies import WorkloadPolicies
from l4.hbone.settings import DrainSettings
from l4.identity.files import FolderStore
from l4.identity.source import CertificateSource
from l4.net import descriptors
from l4.net.memory import give_back_unused
from l4.net.tasks import Tasks
from l4.settings import SECTIONS
from l4.telemetry.access_log import CannotOpenLog, open_access_log
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import EACH, ProcessLog
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

    resources: tuple[Path, ...]
    node: str
    certificates: Path
    trust_bundle: Path
    metrics: Address
    readiness: Address
    admin: Address
    access_log: str
    hbone_port: int
    revocations: Path | None = None


class Ztunnel:
    """The L4 proxy of one node. Create it inside its event loop."""

    def __init__(
        self, options: RunOptions, settings: Settings, process_log: ProcessLog, certificates: CertificateSource
    ) -> None:
        self._options = options
        self._settings = settings
        self._mesh = settings.of(Mesh)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._telling, self._lack = Telling(log, EACH), ""
        self._source = FolderSource(options.resources)
        self._decoder = Decoder(kubernetes.KINDS)
        self._index: kubernetes.Index | None = None
        self._understanding = Understanding()
        self._registry = Holder(Registry())
        self._certificates = certificates
        self._metrics = MeshMetrics("ztunnel", version.installed())
        self._access_log = open_access_log(options.access_log)
        self._metrics.show_dropped_lines("process", process_log.drops.by_reason)
        if self._access_log is not None:
            self._metrics.show_dropped_lines("access", self._access_log.drops.by_reason)
        self._node = Node(self._registry, self._certificates, Traffic(self._metrics, self._access_log), settings)
        self._pods = Pods(self._node, options.node, options.hbone_port)
        self._operators = OperatorPorts(self._metrics, {"configuration"}, self._dump, self._stopping.set)

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        signals.follow(self._stop, self._access_log)
        options = self._options
        await self._operators.start(OperatorAddresses(options.metrics, options.readiness, options.admin))
        self._apply(self._prepare(self._source.load()))
        gc.collect()
        gc.freeze()  # exempt all long-lived objects from garbage collection
        tasks = Tasks(self._metrics.count_loop_failure, self._operators.readiness.concern)
        tasks.keep("following the configuration", lambda: self._source.watch(self._prepare, self._apply))
        tasks.keep("following the certificates", self._certificates.watch)
        tasks.keep("keeping house", self._keep_house)
        tasks.keep("giving memory back", give_back_unused)
        await self._stopping.wait()
        self._operators.stopping()
        await tasks.close()
        await self._drain()

    async def _drain(self) -> None:
        log.info("stopping: %d connections are open", self._node.traffic.open_count)
        await self._pods.drain(self._settings.of(DrainSettings).drain_seconds)
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
            self._pods.retry()
            if (seconds := self._certificates.seconds_left) is not None:
                self._metrics.certificate_expires(seconds)
            self._operators.readiness.concern("certificates", self._certificates.concern)

    def _stop(self) -> None:
        """The first signal starts draining; the second exits immediately."""
        if self._stopping.is_set():
            os._exit(1)
        self._stopping.set()

    def _prepare(self, documents: Documents) -> "_Prepared":
        """Build the registry, the policies and the messages. Runs in a thread while nothing else decodes."""
        decoded = self._decoder.decode(documents.documents)
        registry = self._indexed(decoded).registry
        doubts = (*documents.doubts, *decoded.doubts)
        denied = self._understanding.take(doubts)
        policies = WorkloadPolicies(decoded.resources, registry, self._mesh.trust_domains, denied)
        problems = {*documents.problems, *decoded.problems, *registry.problems, *policies.problems}
        lack = self._lack_of(documents, decoded.resources, registry)
        return _Prepared(registry, policies, frozenset(problems), doubts, lack, self._understanding.is_complete)

    def _indexed(self, decoded: Decoded) -> kubernetes.Index:
        """Update the index for changed pods and EndpointSlices. After other changes or a failure, rebuild it."""
        index, self._index = self._index, None
        if index is None or decoded.changes is None or index.update(decoded.changes) is None:
            index = kubernetes.Index(decoded.resources, self._mesh)
        self._index = index
        return index

    def _lack_of(self, documents: Documents, resources: Resources, registry: Registry) -> str:
        """Return why there is nothing to serve, or an empty text."""
        if not documents.documents:
            return f"there are no objects in {', '.join(map(str, self._options.resources))}; see --resources"
        name = self._options.node
        nodes = {it.key.name for it in resources.of(NodeObject)}
        nodes |= {workload.node for workload in registry.workloads.values() if workload.node}
        if name in nodes:
            return ""
        close = get_close_matches(name, sorted(nodes), 1)
        known = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(nodes)[:5]) or 'none'}"
        return f"there is no Node {name} and no pod on it; {known}; see --node"

    def _apply(self, prepared: "_Prepared") -> None:
        self._registry.swap(prepared.registry)
        self._node.policies.swap(prepared.policies)
        self._pods.update(prepared.registry)
        readiness = self._operators.readiness
        readiness.concern("configuration files", concern(prepared.doubts))
        readiness.concern("configuration", prepared.lack)
        if prepared.is_understood and not prepared.lack:
            readiness.done("configuration")
        if prepared.lack not in {"", self._lack}:
            log.warning("%s", prepared.lack)
        self._lack = prepared.lack
        self._telling.tell(prepared.problems)
        self._metrics.config_problems.value = len(prepared.problems)
        self._metrics.config_doubts.value = len(prepared.doubts)

    async def _dump(self) -> Mapping[str, object]:
        registry = self._registry.current
        return {
            "workloads": [
                {
                    "uid": workload.uid,
                    "name": workload.name,
                    "namespace": workload.namespace,
                    "workloadIps": list(workload.addresses),
                    "protocol": workload.tunnel_protocol.value,
                    "node": workload.node,
                    "serviceAccount": workload.identity.service_account,
                    "status": "Healthy" if workload.is_healthy else "Unhealthy",
                }
                for workload in registry.workloads.values()
            ],
            "services": [
                {
                    "hostname": service.hostname,
                    "vips": [f"{self._mesh.network}/{address}" for address in service.addresses],
                    "endpoints": [endpoint.workload.uid for endpoint in service.endpoints],
                    "waypoint": service.waypoint.hostname or service.waypoint.ip if service.waypoint else None,
                }
                for service in registry.services.values()
            ],
            "policies": [
                {"name": str(policy), "action": policy.action.value, "dryRun": policy.is_dry_run}
                for policy in self._node.policies.current.policies
            ],
        }


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What goes live next, and the messages about it."""

    registry: Registry
    policies: WorkloadPolicies
    problems: frozenset[Problem]
    doubts: tuple[Doubt, ...]
    lack: str
    is_understood: bool


def run(options: RunOptions) -> None:
    """Run the program. If it cannot start, it exits with a message."""
    with ProcessLog() as process_log:
        logging.getLogger("hpack").setLevel(logging.WARNING)
        descriptors.raise_limit()

        async def main() -> None:
            files = FolderStore(options.certificates, options.trust_bundle, options.revocations)
            await Ztunnel(options, Settings.from_environment(os.environ, SECTIONS), process_log, files).run()

        try:
            uvloop.run(main())
        except (InvalidSetting, PortUnavailable, CannotOpenLog) as error:
            process_log.write(f"ztunnel: {error}")
            sys.exit(1)
