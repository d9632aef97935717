"""Everything that the data path reads, compiled and immutable: one Snapshot per configuration.

An exchange reads `holder.current` once, and uses that snapshot to its last byte. Snapshots contain no live state:
connections, request counts and so on belong to `waypoint.upstream.cluster`, which is reconciled with `clusters` on
every change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from l4.config.documents import Problem
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol, Followed, NamedEndpoint
from policies.attributes import ClusterName, Peer
from policies.authorization import Authorization
from policies.authorizer import Authorizer
from policies.balancing.endpoint import Endpoint
from policies.balancing.method import DEFAULT_BALANCING, Balancing
from policies.circuit import NO_LIMITS, CircuitLimits
from policies.connection_pool import DEFAULT_POOL, ConnectionPool
from policies.host_pattern import HostPattern
from policies.jwt import Authentication
from policies.opaque import OpaqueTable
from policies.outlier import OutlierDetection
from policies.retry_budget import DEFAULT_BUDGET, RetryBudget
from policies.route import Table
from policies.session import SessionPersistence
from policies.telemetry import Collector, TelemetryPolicy
from policies.upstream_tls import UpstreamTls
from waypoint.config.status import ConditionsStatus, GatewayStatus, PolicyStatus, RouteStatus
from waypoint.telemetry.record import ExchangeRecord


@dataclass(frozen=True, slots=True)
class ServiceLabels:
    """A service's names in metrics: `reviews.default.svc.cluster.local`, `reviews`, `default`."""

    hostname: str = "unknown"
    name: str = "unknown"
    namespace: str = "unknown"


UNKNOWN_SERVICE = ServiceLabels()
# An enumeration's class looks up its members by Python code before 3.12, so hot code names these.
_HTTP, _UNKNOWN = AppProtocol.HTTP, AppProtocol.UNKNOWN


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Configuration of one destination: a port of a service, with its endpoints."""

    name: ClusterName
    service: ServiceLabels
    port: int
    app_protocol: AppProtocol
    endpoints: tuple[Endpoint, ...]
    pool: ConnectionPool = DEFAULT_POOL
    names: tuple[NamedEndpoint, ...] = ()
    """Further endpoints that are DNS names; `upstream.dns` resolves them."""
    followed: Followed | None = None
    """Used instead of endpoints if requests go to the called address or host. See `upstream.branches`."""
    tls: UpstreamTls | None = None
    retry_budget: RetryBudget = DEFAULT_BUDGET
    session: SessionPersistence | None = None
    circuit: CircuitLimits = NO_LIMITS
    outlier: OutlierDetection | None = None
    balancing: Balancing = DEFAULT_BALANCING

    def speaks_http2(self, client_protocol: str) -> bool:
        """Whether to speak HTTP/2: as the port declares, or else as the client does."""
        if self.pool.uses_client_protocol:
            return client_protocol == "HTTP/2"
        return self.app_protocol is not _HTTP and (client_protocol == "HTTP/2" or self.app_protocol is not _UNKNOWN)


@dataclass(frozen=True, slots=True)
class Destination:
    """The target of a CONNECT authority: a port of a service that this waypoint serves.

    - `routes` are for HTTP. Clients in namespaces with consumer routes use `consumer_routes` instead. `opaque` and
      `consumer_opaque` are the same for other protocols.
    - `authentication` holds the token rules for HTTP requests, or None.
    - `authorization` or `opaque_authorization` is evaluated before routing; None without policies. `late_authorization`
      is evaluated for active requests when policies change.
    - `authorizers` are those that CUSTOM policies name; None without CUSTOM policies.
    - `telemetry` is what Telemetry objects say; None without any.
    - `addresses` are all addresses of the service. `hosts` limits the hosts that requests may name, if hosts are
      resolved.
    - `is_leaving`: the service is bound to this waypoint no longer. Clients are asked to connect anew.
    """

    service: ServiceLabels
    port: int
    app_protocol: AppProtocol
    routes: Table
    opaque: OpaqueTable
    consumer_routes: Mapping[str, Table] = field(default_factory=dict)
    consumer_opaque: Mapping[str, OpaqueTable] = field(default_factory=dict)
    authentication: Authentication | None = None
    addresses: tuple[str, ...] = ()
    authorization: Authorization | None = None
    opaque_authorization: Authorization | None = None
    late_authorization: Authorization | None = None
    authorizers: Mapping[str, Authorizer] | None = None
    hosts: HostPattern | None = None
    telemetry: TelemetryPolicy[ExchangeRecord] | None = None
    policies: tuple[object, ...] = field(default=(), repr=False)
    """Policies of filters that run before tokens are checked and a rule is selected."""
    is_leaving: bool = False

    @property
    def judged_names(self) -> frozenset[bytes]:
        """Names of headers that are read before routing, or that pass claims to endpoints."""
        names: frozenset[bytes] = frozenset()
        if self.authorization is not None:
            names |= self.authorization.header_names
        if self.authentication is not None:
            names |= self.authentication.header_names
        return names

    def routes_for(self, peer: Peer) -> Table:
        """Return the routes for a client, by the namespace of its identity. Headers have no influence."""
        if not self.consumer_routes or peer.identity is None:
            return self.routes
        return self.consumer_routes.get(peer.identity.namespace, self.routes)

    def opaque_for(self, peer: Peer) -> OpaqueTable:
        if not self.consumer_opaque or peer.identity is None:
            return self.opaque
        return self.consumer_opaque.get(peer.identity.namespace, self.opaque)


Statuses = tuple[RouteStatus | PolicyStatus | ConditionsStatus | GatewayStatus, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`destinations` is keyed by (ip, port) and (hostname, port) of the CONNECT authority."""

    version: str
    registry: Registry
    destinations: Mapping[tuple[str, int], Destination] = field(default_factory=dict)
    clusters: Mapping[ClusterName, ClusterConfig] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    statuses: Statuses = ()
    policies: tuple[object, ...] = ()
    """The policies of our own policy objects, for the filters that keep state for them."""
    has_gateway: bool = False
    """False while the served Gateway is missing from the configuration. The waypoint is then not ready."""
    path_normalization: str = "BASE"
    tells_client: bool = False
    """Whether endpoints get the client's identity in x-forwarded-client-cert."""
    collectors: frozenset[Collector] = frozenset()
    """Those of Telemetry objects, where spans go."""
    is_carried: bool = False
    """Whether a ztunnel redirects the waypoint's own pod, and makes the tunnels to endpoints."""
    is_open: bool = False
    """Whether some destination includes a network or a wildcard host."""

    def destination(self, authority: tuple[str, int]) -> Destination | None:
        """Return the destination for a CONNECT authority, or None if it is not ours."""
        found = self.destinations.get(authority)
        return found if found is not None or not self.is_open else self._open(*authority)

    def _open(self, host: str, port: int) -> Destination | None:
        """Find a destination by network or wildcard. Its address is the one that was called."""
        if (service := self.registry.service_at(host)) is not None:
            found = self.destinations.get((service.hostname, port))
            return replace(found, addresses=(host,)) if found is not None else None
        service = self.registry.service_with(host)
        return self.destinations.get((service.hostname, port)) if service is not None else None


def why_not_served(snapshot: Snapshot, authority: tuple[str, int]) -> str:
    """Return a sentence that says why the authority is not served."""
    host, port = authority
    registry = snapshot.registry
    service = registry.service_at(host) or registry.service_with(host)
    if service is None:
        kind = (
            "a workload, but this waypoint does not serve that address or port"
            if registry.workload_at(host)
            else "no known service"
        )
        return f"{host} is {kind}"
    if port not in {declared.port for declared in service.ports}:
        return f"service {service.hostname} has no port {port}"
    return f"service {service.hostname} is not bound to this waypoint"
