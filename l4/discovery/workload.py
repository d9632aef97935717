"""Workloads and services as the mesh knows them, whatever told us: Kubernetes objects now, WDS later.

Field names follow `istio.workload` (workload.proto) where that has one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from functools import cached_property

from policies.attributes import Identity
from policies.balancing.endpoint import WorkloadLabels
from policies.balancing.locality import NEAREST, Rank


class TunnelProtocol(Enum):
    NONE = "TCP"
    HBONE = "HBONE"


class Health(IntEnum):
    """LEAVING: it terminates and still serves."""

    NOT_READY = 0
    LEAVING = 1
    READY = 2


class Follows(Enum):
    """Where a connection to a service without endpoints of its own goes on."""

    ADDRESS = "the address that was called"
    HOST = "the host that the request names"


class AppProtocol(Enum):
    """What a service port declares to carry. UNKNOWN: undeclared, to be found out from the first bytes."""

    UNKNOWN = "unknown"
    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Where a waypoint is reached: a service hostname (preferred) or an IP, and its HBONE port.

    `namespace` and `gateway` name the Gateway it belongs to. `bound_by` is the object whose label asks for it.
    """

    hostname: str = ""
    namespace: str = ""
    gateway: str = ""
    ip: str = ""
    hbone_port: int = 15008
    bound_by: str = field(default="", compare=False)


@dataclass(frozen=True)
class Workload:
    """One running instance. `ports` are those that its containers declare. `locality` is `region/zone/subzone`, or as
    much of it as is known. `is_leaving`: it terminates and still serves."""

    uid: str
    name: str
    namespace: str
    addresses: tuple[str, ...]
    identity: Identity
    tunnel_protocol: TunnelProtocol
    node: str
    is_healthy: bool
    workload_name: str
    workload_type: str = "deployment"
    canonical_name: str = ""
    canonical_revision: str = "latest"
    cluster_id: str = "Kubernetes"
    network: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    waypoint: GatewayAddress | None = None
    capacity: int = 1
    ports: tuple[int, ...] = ()
    locality: str = ""
    is_leaving: bool = False

    @property
    def health(self) -> Health:
        if self.is_healthy:
            return Health.READY
        return Health.LEAVING if self.is_leaving else Health.NOT_READY

    @property
    def tunnel_identity(self) -> Identity | None:
        """Whom the certificate at the other end of a tunnel must name; None when it speaks no HBONE and is dialled in
        plain TCP."""
        return self.identity if self.tunnel_protocol is TunnelProtocol.HBONE else None

    @cached_property
    def metric_labels(self) -> WorkloadLabels:
        """What metrics say of this workload; always the same object, because they look series up by it."""
        return WorkloadLabels(
            workload=self.workload_name or "unknown",
            namespace=self.namespace,
            principal=str(self.identity),
            app=self.labels.get("app") or self.canonical_name or "unknown",
            version=self.labels.get("version") or self.canonical_revision,
            canonical_service=self.canonical_name or "unknown",
            canonical_revision=self.canonical_revision,
            cluster=self.cluster_id,
        )


@dataclass(frozen=True, slots=True)
class ServicePort:
    port: int
    name: str
    app_protocol: AppProtocol


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """A workload as member of a service; `ports` maps service port to the port of this workload. `stated` is what the
    service says of its health; None where that is the workload's own."""

    workload: Workload
    ports: Mapping[int, int]
    stated: Health | None = None

    @property
    def health(self) -> Health:
        return self.workload.health if self.stated is None else self.stated


def usable(endpoints: Iterable[ServiceEndpoint]) -> list[ServiceEndpoint]:
    """Those that are ready; where none is, those that terminate and still serve, as kube-proxy has it."""
    by_health: dict[Health, list[ServiceEndpoint]] = {}
    for endpoint in endpoints:
        by_health.setdefault(endpoint.health, []).append(endpoint)
    return by_health.get(Health.READY) or by_health.get(Health.LEAVING, [])


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """An endpoint of which only the DNS name is known; `workload` says the rest of it, for each address alike."""

    name: str
    ports: Mapping[int, int]
    weight: int
    workload: Workload
    rank: Rank = NEAREST


@dataclass(frozen=True, slots=True)
class Followed:
    """What stands in place of endpoints. `hosts` are those that are meant, `networks` the addresses, both as the entry
    has them; `workload` says the rest of whoever answers, `ports` at which of its ports."""

    by: Follows
    hosts: str
    networks: tuple[str, ...]
    ports: Mapping[int, int]
    workload: Workload


@dataclass(frozen=True, slots=True)
class Service:
    """A name clients call. `waypoint` is set only when a waypoint is bound and has an address. `is_entry`: a
    ServiceEntry's, of which there is one service for each host. `traffic_distribution` is `PreferSameZone`,
    `PreferSameNode`, or empty. A `hostname` may be a wildcard. `networks` are called like `addresses`. `exported_to`
    names the namespaces that see it; None for all. `subject_alt_names` are those of which a server's certificate has
    one."""

    name: str
    namespace: str
    hostname: str
    addresses: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    endpoints: tuple[ServiceEndpoint, ...]
    waypoint: GatewayAddress | None = None
    is_entry: bool = False
    names: tuple[NamedEndpoint, ...] = ()
    traffic_distribution: str = ""
    subject_alt_names: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    followed: Followed | None = None
    exported_to: frozenset[str] | None = None

    def is_visible_in(self, namespace: str) -> bool:
        return self.exported_to is None or namespace in self.exported_to

    def port(self, number: int | None) -> ServicePort | None:
        return next((port for port in self.ports if port.port == number), None)
