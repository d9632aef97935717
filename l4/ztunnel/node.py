"""State that all pods of the node share."""

import asyncio
import logging
from collections.abc import Collection, Coroutine
from dataclasses import dataclass, field
from typing import Protocol

from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import Workload
from l4.discovery.workload_policies import NO_POLICIES, WorkloadPolicies
from l4.hbone.settings import HboneSettings
from l4.identity.source import CertificateSource
from l4.net.capacity import Capacity
from l4.net.deadlines import Deadlines
from l4.telemetry.source import SourceLabels
from l4.ztunnel.reaches import Reaches
from l4.ztunnel.traffic import Traffic
from policies.access import Access
from policies.authorization import ALLOWED, Verdict

log = logging.getLogger(__name__)


class Finder(Protocol):
    """Asks for addresses where the registry does not hold the whole mesh."""

    async def pods(self, names: Collection[tuple[str, str]]) -> None:
        """Ask for the pods of the node, by namespace and name."""

    async def destination(self, ip: str) -> bool:
        """Ask for all that decides where a connection to `ip` goes. Returns False if there is no answer in time."""


@dataclass(slots=True)
class Node:
    """State used by every pod's listeners. `spawn` starts a task that the program owns."""

    registry: Holder[Registry]
    certificates: CertificateSource
    traffic: Traffic
    settings: Settings
    finder: Finder | None = None
    sources: SourceLabels = field(default_factory=SourceLabels)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    policies: Holder[WorkloadPolicies] = field(default_factory=lambda: Holder(NO_POLICIES))
    loop: asyncio.AbstractEventLoop = field(init=False)
    hbone: HboneSettings = field(init=False)
    capacity: Capacity = field(init=False)
    reaches: Reaches = field(init=False)
    deadlines: Deadlines = field(init=False)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.policies.subscribe(self._judge_again)
        self.registry.subscribe(lambda registry: self.sources.reconcile(registry))
        self.registry.subscribe(lambda registry: self.traffic.known.forget())
        self.hbone = self.settings.of(HboneSettings)
        self.capacity = Capacity(self.hbone.max_connections)
        self.reaches = Reaches(self.spawn, self.hbone.connect_seconds)
        self.deadlines = Deadlines(self.loop)

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def judge(self, workload: Workload, access: Access) -> Verdict:
        """Decide whether a connection to the workload is allowed."""
        authorization = self.policies.current.of(workload)
        if authorization is None:
            return ALLOWED
        verdict = authorization.judge(access)
        for shadow in verdict.shadow:
            log.debug("dry-run of policies for %s: %s", workload.name, shadow)
        return verdict

    def _judge_again(self, policies: WorkloadPolicies) -> None:
        if not policies.is_empty:
            self.traffic.cut(self._judge_pod)

    def _judge_pod(self, pod_uid: str, access: Access) -> Verdict:
        workload = self.registry.current.workloads.get(pod_uid)
        return self.judge(workload, access) if workload is not None else ALLOWED

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection's task failed", exc_info=error)
