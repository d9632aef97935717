"""One address of a service, as load balancers see it."""

from dataclasses import dataclass

from policies.attributes import Identity
from policies.balancing.locality import NEAREST, Rank
from policies.host_port import host_port
from policies.upstream_tls import UpstreamTls


@dataclass(frozen=True, slots=True)
class WorkloadLabels:
    """Workload attributes for metrics and logs. Unknown values are `unknown`."""

    workload: str = "unknown"
    namespace: str = "unknown"
    principal: str = "unknown"
    app: str = "unknown"
    version: str = "unknown"
    canonical_service: str = "unknown"
    canonical_revision: str = "latest"
    cluster: str = "unknown"


UNKNOWN_WORKLOAD = WorkloadLabels()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: `ip`:`port` of the application, and how to reach it.

    `identity` is the identity that the tunnel's server certificate must contain. It is None if the workload does not
    support HBONE; the connection is then plain TCP. `tls` is the TLS that the application itself expects. `rank` gives
    the endpoint's priority or share by locality.
    """

    ip: str
    port: int
    identity: Identity | None
    workload: WorkloadLabels = UNKNOWN_WORKLOAD
    weight: int = 1
    tls: UpstreamTls | None = None
    rank: Rank = NEAREST

    @property
    def name(self) -> str:
        """The name that Istio's waypoint uses, whose tunnels begin at an internal listener."""
        return str(self) if self.identity is None else f"envoy://connect_originate/{self}"

    def __str__(self) -> str:
        return host_port(self.ip, self.port)
