"""The agent as a program: follows the pods of its node, and redirects those that their labels ask for."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from l4 import program, signals, version
from l4.admin import OperatorAddresses, OperatorPorts
from l4.config.intake import Intake, Taken
from l4.config.source import Answer, Source, in_a_thread
from l4.configuration import ConfigurationReport, client_of, source_of
from l4.kubernetes.client import ApiClient
from l4.kubernetes.credentials import CredentialsError
from l4.kubernetes.options import KubernetesOptions
from l4.kubernetes.reflector import Key, Scope
from l4.net.network import Network, own
from l4.net.tasks import Tasks
from l4.node.agent import Agent, NodePod
from l4.node.annotating import Annotating
from l4.node.objects import KINDS, pods_of
from l4.node.uninstalling import Uninstalling
from l4.silence import Silence
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import ProcessLog

log = logging.getLogger(__name__)

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Command-line options of `ztunnel agent run`. `daemon_set` needs an API server."""

    resources: tuple[Path, ...] | KubernetesOptions
    node: str
    socket: Path
    metrics: Address
    readiness: Address
    admin: Address
    daemon_set: Key | None = None


class AgentProgram:
    """With a `client`, each Pod object says whether the pod is redirected. Create it inside its event loop."""

    def __init__(self, options: AgentOptions, source: Source, client: ApiClient | None = None) -> None:
        self._options = options
        self._source = source
        self._intake = Intake(KINDS)
        self._client = client
        self._annotating = annotating = Annotating(client) if client is not None else None
        on_redirected = annotating.redirected if annotating is not None else _nothing
        self._agent = Agent(options.socket, Network(os.dup(own())), on_redirected, on_lack=self._lacks)
        self._uninstalling = None
        if client is not None and annotating is not None and options.daemon_set is not None:
            self._uninstalling = Uninstalling(client, options.daemon_set, self._agent, annotating, self._uninstalled)
        self._stopping = signals.Stopping()
        self._metrics = MeshMetrics("ztunnel-agent", version.installed())
        self._operators = OperatorPorts(self._metrics, {"configuration"}, self._dump, self._stopping.begin)
        self._report = ConfigurationReport(log, self._operators.readiness, self._metrics)
        self._silence = Silence(log, self._operators.readiness, self._metrics, lambda: source.silent_seconds)

    async def run(self) -> None:
        """Work until told to stop. Redirected pods stay redirected, for the agent that takes over, unless the agent is
        being uninstalled."""
        signals.follow(self._stopping, None)
        options = self._options
        await self._operators.start(OperatorAddresses(options.metrics, options.readiness, options.admin))
        self._apply(self._prepare(await self._source.load()))
        tasks = Tasks(self._metrics.count_loop_failure, self._operators.readiness.concern)
        tasks.keep("following the pods", lambda: self._source.watch(in_a_thread(self._prepare, self._apply)))
        tasks.keep("telling the age of the configuration", self._silence.follow)
        tasks.keep("announcing pods", self._agent.announcer.serve)
        tasks.keep("redirecting pods", self._agent.follow)
        if (annotating := self._annotating) is not None:
            tasks.keep("annotating pods", lambda: annotating.follow(self._lacks_annotations))
        if self._uninstalling is not None:
            tasks.keep("watching the DaemonSet", self._uninstalling.follow)
        await self._stopping.wait()
        self._operators.stopping()
        if self._uninstalling is not None:
            await self._uninstalling.leave()
        await tasks.close()
        await self._source.close()
        if self._client is not None:
            await self._client.close()
        await self._operators.close()

    def _prepare(self, answer: Answer) -> tuple[Taken, tuple[list[NodePod], list[NodePod]] | None]:
        taken = self._intake.take(answer)
        return taken, pods_of(taken, self._options.node)

    def _apply(self, prepared: tuple[Taken, tuple[list[NodePod], list[NodePod]] | None]) -> None:
        taken, pods = prepared
        if pods is not None:
            (self._uninstalling or self._agent).want(*pods)
        self._report.tell(taken, taken.problems, "" if taken.documents else self._source.lack)

    def _lacks_annotations(self, sentence: str) -> None:
        self._operators.readiness.concern("annotations", sentence)

    def _lacks(self, sentence: str) -> None:
        self._operators.readiness.concern("redirection", sentence)

    def _uninstalled(self, sentence: str) -> None:
        """Be not ready meanwhile, so that a rollout with a wrong name ends at its first node."""
        readiness = self._operators.readiness
        readiness.concern("installation", sentence)
        if sentence:
            readiness.pending.add("installation")
        else:
            readiness.done("installation")

    async def _dump(self) -> Mapping[str, object]:
        return {"redirected": sorted(self._agent.redirected), "lack": self._agent.lack}


def _nothing(pod: NodePod, is_redirected: bool) -> None:
    """Files have no annotations to write."""


def run(options: AgentOptions) -> None:
    """Run the program. If it cannot start, it exits with a message."""

    async def main(process_log: ProcessLog) -> None:
        its = options.resources
        client = client_of(its) if isinstance(its, KubernetesOptions) else None
        of_node = Scope(field_selector=f"spec.nodeName={options.node}")
        await AgentProgram(options, source_of(its, KINDS, {("", "Pod"): of_node}), client).run()

    program.run("ztunnel", main, CredentialsError)
