"""The interface through which routes refer to clusters while these are compiled. Implemented in `clusters`."""

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
        """Return istiod's name of the cluster. None if no DestinationRule has this subset."""

    def at(self, host: str, port: int) -> ClusterName:
        """Return the cluster for an address or DNS name unknown to the mesh."""
