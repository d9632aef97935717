"""Where a ztunnel knows the mesh from: objects in files or of an API server, or a control plane's discovery."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

from l4.config.documents import Problem
from l4.config.holder import Holder
from l4.config.source import Answer, Source, in_a_thread
from l4.configuration import Understood
from l4.discovery import kubernetes
from l4.discovery.index import Update
from l4.discovery.mesh import Mesh
from l4.discovery.objects import NodeObject
from l4.discovery.pipeline import Discovery
from l4.discovery.policy_objects import FollowedPolicies
from l4.discovery.registry import Registry
from l4.discovery.workload_policies import WorkloadPolicies
from l4.telemetry.metrics import MeshMetrics
from l4.ztunnel.node import Finder


@dataclass(frozen=True, slots=True)
class Known:
    """A configuration that is about to go live, and its messages.

    `update` is the difference to the one with the `number` before; None if everything may differ. `lack` says why there
    is nothing to serve, or is empty.
    """

    number: int
    registry: Registry
    update: Update | None
    policies: WorkloadPolicies
    understood: Understood
    problems: frozenset[Problem]
    lack: str


class Knowing(Protocol):
    """Like a `Source`, for a whole mesh: first all that is known, and then what changes."""

    @property
    def server(self) -> str:
        """A name for messages."""

    @property
    def silent_seconds(self) -> float: ...

    async def load(self) -> Known: ...

    async def watch(self, apply: Callable[[Known], None]) -> None: ...

    async def close(self) -> None: ...

    def show(self, metrics: MeshMetrics) -> None:
        """Export what it counts."""

    def finder(self, registry: Holder[Registry]) -> Finder | None:
        """Return what asks for addresses, if not all are known. `registry` is the one in force."""


class FromObjects:
    """Objects of a source."""

    server = "the API server"

    def __init__(self, source: Source, mesh: Mesh, node: str) -> None:
        self._source = source
        self._node = node
        self._number = 0
        self._discovery = Discovery(kubernetes.KINDS, mesh)
        self._policies = FollowedPolicies(mesh.trust_domains, lambda it: it.node == node)

    @property
    def silent_seconds(self) -> float:
        return self._source.silent_seconds

    async def load(self) -> Known:
        return self._prepare(await self._source.load())

    async def watch(self, apply: Callable[[Known], None]) -> None:
        await self._source.watch(in_a_thread(self._prepare, apply))

    async def close(self) -> None:
        await self._source.close()

    def show(self, metrics: MeshMetrics) -> None:
        """It counts nothing of its own."""

    def finder(self, registry: Holder[Registry]) -> None:
        return None

    def _prepare(self, answer: Answer) -> Known:
        self._number += 1
        known = self._discovery.take(answer)
        policies = self._policies.take(known)
        problems = known.taken.problems | {*known.registry.problems, *self._policies.problems}
        nodes = {it.key.name for it in known.taken.resources.of(NodeObject)}
        lack = lack_of(self._node, known.registry, nodes) if known.taken.documents else self._source.lack
        return Known(self._number, known.registry, known.update, policies, known.taken, problems, lack)


def lack_of(name: str, registry: Registry, nodes: Collection[str]) -> str:
    """Return why there is nothing to serve, or an empty text. `nodes` are known besides those of workloads."""
    workloads = registry.workloads.values()
    if name in nodes or any(workload.node == name for workload in workloads):
        return ""
    known = sorted({*nodes, *(workload.node for workload in workloads if workload.node)})
    close = get_close_matches(name, known, 1)
    others = f"did you mean {close[0]}?" if close else f"known nodes: {', '.join(known[:5]) or 'none'}"
    return f"there is no Node {name} and no pod on it; {others}; see --node"
