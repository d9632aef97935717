"""One address of a service as the balancer sees it."""

from dataclasses import dataclass

from policies.attributes import Identity
from policies.balancing.locality import NEAREST, Rank
from policies.upstream_tls import UpstreamTls


@dataclass(frozen=True, slots=True)
class WorkloadLabels:
    """What metrics and logs say of a workload; every value is already `unknown` where it is not known."""

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
    """Where to send a request: `ip`:`port` of the application, and how to get there.

    `identity` is whom the tunnel's server certificate must name; None when the workload speaks no HBONE
    and is dialled in plain TCP. `tls` is what the application itself wants to be spoken to with. `rank` says when it
    is its turn, by where it is.
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
        """As Istio's waypoint names it, whose tunnels begin at a listener of its own."""
        return str(self) if self.identity is None else f"envoy://connect_originate/{self}"

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"
