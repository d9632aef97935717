"""A ztunnel that knows the mesh from a control plane's discovery."""

from collections.abc import Callable

from l4.config.holder import Holder
from l4.config.source import in_a_thread
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.telemetry.metrics import MeshMetrics
from l4.xds.discovered import Arrived, DiscoveredMesh
from l4.xds.feed import DiscoveryFeed
from l4.ztunnel.knowing import Known, lack_of
from l4.ztunnel.on_demand import OnDemand


class FromControlPlane:
    """Addresses and policies that a control plane sends."""

    def __init__(self, feed: DiscoveryFeed, mesh: Mesh, node: str) -> None:
        self._feed = feed
        self._node = node
        self._number = 0
        self._settings = mesh
        self._mesh = DiscoveredMesh(mesh, lambda it: it.node == node)
        self.server = feed.name

    @property
    def silent_seconds(self) -> float:
        return self._feed.silent_seconds

    async def load(self) -> Known:
        return self._prepare(await self._feed.load())

    async def watch(self, apply: Callable[[Known], None]) -> None:
        await self._feed.watch(in_a_thread(self._prepare, apply))

    async def close(self) -> None:
        await self._feed.close()

    def show(self, metrics: MeshMetrics) -> None:
        self._feed.counts.show(metrics)

    def finder(self, registry: Holder[Registry]) -> OnDemand | None:
        return OnDemand(self._feed, registry, self._settings) if self._feed.is_on_demand else None

    def _prepare(self, arrived: Arrived) -> Known:
        self._number += 1
        state = self._mesh.take(arrived)
        lack = ""
        if not self._feed.is_on_demand:
            sent = state.registry.workloads
            lack = lack_of(self._node, state.registry, ()) if sent else f"{self.server} has sent no workload"
        return Known(self._number, state.registry, state.update, state.policies, state, state.problems, lack)
