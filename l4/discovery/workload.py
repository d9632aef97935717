"""Workloads and services, independent of their source: Kubernetes objects, or a control plane's discovery.

Field names follow `istio.workload` (workload.proto) where it has an equivalent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from functools import cached_property

from l4.discovery.capture import NO_CAPTURE, Capture
from l4.telemetry.propagation import format_baggage
from policies.attributes import Identity
from policies.balancing.endpoint import WorkloadLabels
from policies.balancing.locality import NEAREST, Rank


class TunnelProtocol(Enum):
    NONE = "TCP"
    HBONE = "HBONE"


_HBONE = TunnelProtocol.HBONE
"""To look up a member of an enum costs more than the rest of `tunnel_identity`."""


class Health(IntEnum):
    """Health of a workload. LEAVING: terminating, but still serving."""

    NOT_READY = 0
    LEAVING = 1
    READY = 2


class Follows(Enum):
    """The destination of connections to a service without its own endpoints."""

    ADDRESS = "the address that was called"
    HOST = "the host that the request names"


class AppProtocol(Enum):
    """The declared protocol of a service port. UNKNOWN: not declared, to be detected from the first bytes."""

    UNKNOWN = "unknown"
    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    TCP = "tcp"
    TLS = "tls"


class Scope(Enum):
    """What a client and an endpoint may have in common."""

    NETWORK = "network"
    REGION = "region"
    ZONE = "zone"
    SUBZONE = "subzone"
    NODE = "node"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Nearness:
    """Endpoints that have the first of these in common with the client come before others, then the next, and so on.

    `is_strict`: endpoints that do not have all of them in common get nothing.
    """

    scopes: tuple[Scope, ...] = ()
    is_strict: bool = False


EVERYWHERE = Nearness()


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Address of a waypoint: a service hostname (preferred) or an IP address, and its HBONE port.

    `namespace` and `gateway` name its Gateway. `bound_by` is the object whose label requests the waypoint.
    """

    hostname: str = ""
    namespace: str = ""
    gateway: str = ""
    ip: str = ""
    hbone_port: int = 15008
    bound_by: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class WaypointShare:
    """A waypoint of a service, and its weight among the service's waypoints. Connections are divided by weight."""

    waypoint: GatewayAddress
    weight: int


@dataclass(frozen=True, slots=True)
class ApplicationTunnel:
    """A pod whose own proxy takes the connections that its ztunnel gets by tunnels, whatever address they are for.

    They go to `port`, or to the port that was called if it is 0; after a header of the PROXY protocol if `has_header`.
    """

    port: int = 0
    has_header: bool = False


@dataclass(frozen=True)
class Workload:
    """One running instance.

    `ports` are declared by its containers. `locality` is `region/zone/subzone`, or the known parts. `is_leaving`:
    terminating, but still serving. `is_redirected`: its connections go through its node's ztunnel, by a redirection or
    by the `capture` that it asks for. `tells_client`: a waypoint that tells its destinations who the client is. Without
    `has_all_labels`, it may have other `labels` than those that are known.
    """

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
    waypoint: GatewayAddress | None = None
    capacity: int = 1
    ports: tuple[int, ...] = ()
    locality: str = ""
    is_leaving: bool = False
    is_redirected: bool = False
    capture: Capture = NO_CAPTURE
    tells_client: bool = False
    application_tunnel: ApplicationTunnel | None = None
    authorization_policies: tuple[str, ...] = ()
    has_all_labels: bool = True

    @property
    def health(self) -> Health:
        if self.is_healthy:
            return Health.READY
        return Health.LEAVING if self.is_leaving else Health.NOT_READY

    @property
    def tunnel_identity(self) -> Identity | None:
        """Identity that the server certificate of a tunnel must have. None without HBONE; connections are then plain
        TCP."""
        return self.identity if self.tunnel_protocol is _HBONE else None

    @cached_property
    def metric_labels(self) -> WorkloadLabels:
        """Labels for metrics. Always the same object, because metrics cache series by it."""
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

    @cached_property
    def baggage(self) -> bytes:
        """How a CONNECT request, or the answer to one, describes the workload."""
        return format_baggage(self)


@dataclass(frozen=True, slots=True)
class ServicePort:
    port: int
    name: str
    app_protocol: AppProtocol


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """A workload as endpoint of a service. `ports` maps service ports to ports of the workload.

    `stated` is the health that the service's objects report, or None to use the workload's own.
    """

    workload: Workload
    ports: Mapping[int, int]
    stated: Health | None = None

    @property
    def health(self) -> Health:
        return self.workload.health if self.stated is None else self.stated


def usable(endpoints: Iterable[ServiceEndpoint]) -> list[ServiceEndpoint]:
    """Return the ready endpoints; if there are none, those that are terminating but still serve, as kube-proxy does."""
    by_health: dict[Health, list[ServiceEndpoint]] = {}
    for endpoint in endpoints:
        by_health.setdefault(endpoint.health, []).append(endpoint)
    return by_health.get(Health.READY) or by_health.get(Health.LEAVING, [])


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """An endpoint with a DNS name. `workload` gives the other attributes of all its addresses."""

    name: str
    ports: Mapping[int, int]
    weight: int
    workload: Workload
    rank: Rank = NEAREST


@dataclass(frozen=True, slots=True)
class Followed:
    """Replaces endpoints for a service that follows the client's destination.

    `hosts` and `networks` limit the destinations, as the entry gives them. `ports` maps service ports to the
    destination's; `workload` gives its other attributes.
    """

    by: Follows
    hosts: str
    networks: tuple[str, ...]
    ports: Mapping[int, int]
    workload: Workload


@dataclass(frozen=True, slots=True)
class Service:
    """A name that clients call.

    - `hostname` may be a wildcard. `networks` are called like `addresses`.
    - `waypoint` is set only if a waypoint is bound and has an address. `shares` are set only if it has a canary: they
      are the waypoint and its canary.
    - `is_entry`: the service comes from a ServiceEntry, which has one service per host.
    - `traffic_distribution` is `PreferSameZone`, `PreferSameNode` or empty. `nearness` says the same, and more, for
      ztunnels.
    - `exported_to` names the namespaces that can see it; None means all.
    - `subject_alt_names` are names of which a server's certificate must have one.
    """

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
    nearness: Nearness = EVERYWHERE
    shares: tuple[WaypointShare, ...] = ()

    @property
    def waypoints(self) -> tuple[GatewayAddress, ...]:
        """All waypoints that serve it, its own first, also those without weight at the moment."""
        if self.waypoint is None:
            return ()
        return tuple(dict.fromkeys((self.waypoint, *(it.waypoint for it in self.shares))))

    def is_visible_in(self, namespace: str) -> bool:
        return self.exported_to is None or namespace in self.exported_to

    def port(self, number: int | None) -> ServicePort | None:
        return next((port for port in self.ports if port.port == number), None)
