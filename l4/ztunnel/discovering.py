"""A ztunnel that knows the mesh from a control plane's discovery."""

from collections.abc import Callable

from l4.config.source import in_a_thread
from l4.discovery.mesh import Mesh
from l4.xds.discovered import Arrived, DiscoveredMesh
from l4.xds.feed import DiscoveryFeed
from l4.ztunnel.knowing import Known, lack_of


class FromControlPlane:
    """Addresses and policies that a control plane sends."""

    def __init__(self, feed: DiscoveryFeed, mesh: Mesh, node: str) -> None:
        self._feed = feed
        self._node = node
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

    def _prepare(self, arrived: Arrived) -> Known:
        state = self._mesh.take(arrived)
        lack = f"{self.server} has sent no workload"
        if state.registry.workloads:
            lack = lack_of(self._node, state.registry, ())
        return Known(state.registry, state.update, state.policies, state, state.problems, lack)
