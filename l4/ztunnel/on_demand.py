"""Addresses that are asked for when a connection needs them, in place of a registry of the whole mesh.

The first connection to an address waits for the discovery server. What exists stays subscribed. Of the addresses that
do not exist, the last ones are remembered, so that not every connection to the outside asks again.
"""

from collections import OrderedDict
from collections.abc import Collection

from l4.config.holder import Holder
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.discovery.workload import GatewayAddress
from l4.xds.feed import DiscoveryFeed

FIND_SECONDS = 5.0
"""As long as ztunnel waits for a workload."""
MAX_UNKNOWN = 10_000
_SWEEP_AFTER = 1000


class OnDemand:
    """Finds addresses for the connections of one node's pods."""

    def __init__(self, feed: DiscoveryFeed, registry: Holder[Registry], mesh: Mesh) -> None:
        self._feed = feed
        self._registry = registry
        self._mesh = mesh
        self._pods: set[str] = set()
        self._known: set[str] = set()
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._sweep_at = _SWEEP_AFTER

    async def pods(self, names: Collection[tuple[str, str]]) -> None:
        """Ask for the pods of the node, by namespace and name. Earlier ones are forgotten when they are gone."""
        uids = {f"{self._mesh.cluster_id}//Pod/{namespace}/{name}" for namespace, name in names}
        for uid in self._pods - uids - self._registry.current.workloads.keys():
            self._pods.discard(uid)
            await self._feed.forget(uid)
        self._pods |= uids
        for uid in uids:
            await self._feed.find(uid, FIND_SECONDS)

    async def destination(self, ip: str) -> bool:
        """Ask for all that decides where a connection to `ip` goes. Returns False if the server does not answer."""
        if not await self._ip(ip):
            return False
        registry = self._registry.current
        workload = registry.workload_at(ip)
        service = registry.service_at(ip) if workload is None else None
        waypoints = service.waypoints if service is not None else ()
        if workload is not None and workload.waypoint is not None:
            waypoints = (workload.waypoint,)
        return all([await self._waypoint(it) for it in waypoints])

    async def _waypoint(self, waypoint: GatewayAddress) -> bool:
        if waypoint.hostname:
            return await self._feed.find(f"{waypoint.namespace}/{waypoint.hostname}", FIND_SECONDS)
        return await self._ip(waypoint.ip)

    async def _ip(self, ip: str) -> bool:
        if ip in self._unknown and not self._is_known(ip):
            self._unknown.move_to_end(ip)
            return True
        self._unknown.pop(ip, None)
        if not await self._feed.find(self._name(ip), FIND_SECONDS):
            return False
        if self._is_known(ip):
            self._known.add(ip)
        else:
            await self._remember(ip)
        if len(self._known) >= self._sweep_at:
            await self._sweep()
        return True

    async def _sweep(self) -> None:
        """Remember addresses that have ceased to exist as unknown ones."""
        for ip in [it for it in self._known if not self._is_known(it)]:
            self._known.discard(ip)
            await self._remember(ip)
        self._sweep_at = 2 * len(self._known) + _SWEEP_AFTER

    async def _remember(self, ip: str) -> None:
        self._unknown[ip] = None
        if len(self._unknown) > MAX_UNKNOWN:
            oldest, _ = self._unknown.popitem(last=False)
            if not self._is_known(oldest):  # it may exist by now
                await self._feed.forget(self._name(oldest))

    def _is_known(self, ip: str) -> bool:
        registry = self._registry.current
        return registry.workload_at(ip) is not None or registry.service_at(ip) is not None

    def _name(self, ip: str) -> str:
        return f"{self._mesh.network}/{ip}"
