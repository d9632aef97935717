"""What routes ask of the clusters that are being compiled. `clusters` gives the answers."""

from typing import Literal, Protocol, overload

from l4.discovery.workload import Service, ServicePort, Workload
from policies.attributes import ClusterName


class Destinations(Protocol):
    def is_ours(self, bound: Service | Workload) -> bool:
        """Whether the service, or the workload's own address, is bound to this waypoint."""

    @overload
    def of(self, service: Service, port: ServicePort, subset: Literal[""] = "") -> ClusterName: ...

    @overload
    def of(self, service: Service, port: ServicePort, subset: str) -> ClusterName | None: ...

    def of(self, service: Service, port: ServicePort, subset: str = "") -> ClusterName | None:
        """The name that istiod gives Envoy's cluster; None when no DestinationRule has a subset of that name."""

    def at(self, host: str, port: int) -> ClusterName:
        """An address or a DNS name that is nothing the mesh knows."""
