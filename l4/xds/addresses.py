"""Convert an `istio.workload.Address` to our workload or service: whatever cannot be understood refuses it.

What is understood and not carried out is noted beside it, by field. A service has no endpoints yet: workloads name
their services, see `l4.xds.address_index`.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from l4._proto import workload_pb2 as wire
from l4.discovery.mesh import Mesh
from l4.discovery.objects import canonical_ip
from l4.discovery.workload import (
    EVERYWHERE,
    ApplicationTunnel,
    GatewayAddress,
    Nearness,
    Service,
    ServicePort,
    TunnelProtocol,
    WaypointShare,
    Workload,
)
from l4.xds.resource import Refused
from l4.xds.wire_values import DISTRIBUTIONS, PROTOCOLS, SCOPES, TUNNELS, TYPES
from policies.attributes import Identity

T = TypeVar("T")

TYPE = "type.googleapis.com/istio.workload.Address"
HBONE_PORT = 15008

_VERSIONS = {wire.AUTOMATIC: None, wire.IPV4_ONLY: 4, wire.IPV6_ONLY: 6, wire.DUAL: None}


class _Mode(Enum):
    ANY = auto()
    STRICT = auto()
    FAILOVER = auto()
    PASSTHROUGH = auto()


_MODES = {
    wire.LoadBalancing.UNSPECIFIED_MODE: _Mode.ANY,
    wire.LoadBalancing.STRICT: _Mode.STRICT,
    wire.LoadBalancing.FAILOVER: _Mode.FAILOVER,
    wire.LoadBalancing.PASSTHROUGH: _Mode.PASSTHROUGH,
}

Unsupported = tuple[str, str]
"""A field that is not carried out, and the sentence about it."""


@dataclass(frozen=True, slots=True)
class KnownWorkload:
    """A workload, and its port numbers for each of its services, by `NAMESPACE/HOSTNAME`.

    `is_nameless`: it shares its node's address, or it is on another network.
    """

    workload: Workload
    services: Mapping[str, Mapping[int, int]]
    hostname: str = ""
    is_nameless: bool = False
    unsupported: tuple[Unsupported, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownService:
    """A service without endpoints.

    `ports` are its own target ports; 0 if only the endpoints know them. `ip_version` limits the endpoints, and
    `takes_unhealthy` includes those that are not healthy. `passes_through`: connections go to the address that was
    called.
    """

    service: Service
    ports: Mapping[int, int]
    ip_version: int | None = None
    takes_unhealthy: bool = False
    passes_through: bool = False
    is_canonical: bool = False
    unsupported: tuple[Unsupported, ...] = ()


Known = KnownWorkload | KnownService


def convert(content: bytes, mesh: Mesh) -> Known:
    """Raises Refused."""
    try:
        address = wire.Address.FromString(content)
    except DecodeError:
        raise Refused("its bytes are no istio.workload.Address") from None
    match address.WhichOneof("type"):
        case "workload":
            return _workload(address.workload, mesh)
        case "service":
            return _service(address.service, mesh)
    raise Refused("it is neither a workload nor a service")


def name_of(known: Known) -> str:
    """Return the name that the server must have for it."""
    if isinstance(known, KnownWorkload):
        return known.workload.uid
    return f"{known.service.namespace}/{known.service.hostname}"


# -- workloads ---------------------------------------------------------------------------------------------------------


def _workload(it: wire.Workload, mesh: Mesh) -> KnownWorkload:
    if not it.uid:
        raise Refused("uid: it is empty")
    unsupported: list[Unsupported] = []
    tunnel = _of(TUNNELS, it.tunnel_protocol, "tunnel_protocol")
    status = _of({wire.HEALTHY: True, wire.UNHEALTHY: False}, it.status, "status")
    is_on_node = _of({wire.STANDARD: False, wire.HOST_NETWORK: True}, it.network_mode, "network_mode")
    workload = Workload(
        uid=it.uid,
        name=it.name,
        namespace=it.namespace,
        addresses=tuple(dict.fromkeys(_ip(address, "addresses") for address in it.addresses)),
        identity=_identity(it.trust_domain or "cluster.local", it.namespace, it.service_account or "default"),
        tunnel_protocol=tunnel,
        node=it.node,
        is_healthy=status,
        workload_name=it.workload_name,
        workload_type=_of(TYPES, it.workload_type, "workload_type"),
        canonical_name=it.canonical_name,
        canonical_revision=it.canonical_revision or "latest",
        cluster_id=it.cluster_id or "Kubernetes",
        network=it.network,
        waypoint=_gateway(it.waypoint, "waypoint", mesh, unsupported) if it.HasField("waypoint") else None,
        capacity=it.capacity.value if it.HasField("capacity") else 1,
        locality="/".join((it.locality.region, it.locality.zone, it.locality.subzone)).rstrip("/"),
        is_redirected=tunnel is TunnelProtocol.HBONE and not it.native_tunnel,
        application_tunnel=_application_tunnel(it.application_tunnel) if it.HasField("application_tunnel") else None,
        authorization_policies=tuple(it.authorization_policies),
    )
    services = {_key(key): _targets(ports.ports, f"services[{key}]") for key, ports in it.services.items()}
    return KnownWorkload(
        workload,
        services,
        it.hostname.lower(),
        is_nameless=is_on_node or it.network != mesh.network,
        unsupported=tuple(unsupported),
    )


def _application_tunnel(it: wire.ApplicationTunnel) -> ApplicationTunnel:
    headers = {wire.ApplicationTunnel.NONE: False, wire.ApplicationTunnel.PROXY: True}
    if it.port > 0xFFFF:
        raise Refused(f"application_tunnel.port: {it.port} is no port")
    return ApplicationTunnel(it.port, _of(headers, it.protocol, "application_tunnel.protocol"))


def _identity(trust_domain: str, namespace: str, account: str) -> Identity:
    try:
        return Identity.parse(f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}")
    except ValueError as error:
        raise Refused(f"its trust_domain, namespace and service_account make no identity: {error}") from None


def _key(key: str) -> str:
    namespace, _, hostname = key.partition("/")
    if not namespace or not hostname or "/" in hostname:
        raise Refused(f"services: the key {key!r} is not of the form NAMESPACE/HOSTNAME")
    return key


# -- services ----------------------------------------------------------------------------------------------------------


def _service(it: wire.Service, mesh: Mesh) -> KnownService:
    if not it.namespace or not it.hostname:
        raise Refused("namespace or hostname: it is empty")
    unsupported: list[Unsupported] = []
    exact, networks = _vips(it.addresses, mesh)
    balancing = it.load_balancing
    scopes = tuple(_of(SCOPES, it, "load_balancing.routing_preference") for it in balancing.routing_preference)
    mode = _of(_MODES, balancing.mode, "load_balancing.mode")
    health = {wire.LoadBalancing.ONLY_HEALTHY: False, wire.LoadBalancing.ALLOW_ALL: True}
    takes_unhealthy = _of(health, balancing.health_policy, "load_balancing.health_policy")
    shares = [
        WaypointShare(_gateway(share.destination, "weighted_waypoints", mesh, unsupported), share.weight)
        for share in it.weighted_waypoints
    ]
    hostname, target_ports = it.hostname.lower(), _targets(it.ports, "ports")
    service = Service(
        name=it.name,
        namespace=it.namespace,
        hostname=hostname,
        addresses=exact,
        ports=tuple(_ports(it.ports)),
        endpoints=(),
        waypoint=_gateway(it.waypoint, "waypoint", mesh, unsupported) if it.HasField("waypoint") else None,
        is_entry=hostname != f"{it.name}.{it.namespace}.svc.{mesh.cluster_domain}",
        nearness=Nearness(scopes, mode is _Mode.STRICT) if mode in (_Mode.STRICT, _Mode.FAILOVER) else EVERYWHERE,
        traffic_distribution=DISTRIBUTIONS.get(scopes, "") if mode is _Mode.FAILOVER else "",
        subject_alt_names=tuple(it.subject_alt_names),
        networks=networks,
        exported_to=frozenset({it.namespace}) if it.visibility == wire.NAMESPACE else None,
        shares=tuple(shares),
    )
    return KnownService(
        service,
        target_ports,
        _of(_VERSIONS, it.ip_families, "ip_families"),
        takes_unhealthy,
        mode is _Mode.PASSTHROUGH,
        it.canonical,
        tuple(unsupported),
    )


def _vips(addresses: Iterable[wire.NetworkAddress], mesh: Mesh) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses and the CIDR ranges on our own network. On another one they mean something else."""
    exact: list[str] = []
    networks: list[str] = []
    for it in addresses:
        ip = ipaddress.ip_address(_ip(it.address, "addresses"))
        length = it.length if it.HasField("length") else ip.max_prefixlen
        if length > len(it.address) * 8:
            raise Refused(f"addresses: {ip}/{length} is no network")
        if it.network != mesh.network:
            continue
        if length >= ip.max_prefixlen:
            exact.append(str(ip))
        else:
            networks.append(str(ipaddress.ip_network(f"{ip}/{length}", strict=False)))
    return tuple(dict.fromkeys(exact)), tuple(dict.fromkeys(networks))


def _ports(ports: Iterable[wire.Port]) -> Iterator[ServicePort]:
    for it in ports:
        protocol = _of(PROTOCOLS, it.app_protocol, "app_protocol")
        yield ServicePort(it.service_port, "", protocol)


# -- both --------------------------------------------------------------------------------------------------------------


def _targets(ports: Iterable[wire.Port], place: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for it in ports:
        if not 0 < it.service_port <= 0xFFFF or it.target_port > 0xFFFF:
            raise Refused(f"{place}: {it.service_port} to {it.target_port} are no ports")
        found[it.service_port] = it.target_port
    return found


def _gateway(address: wire.GatewayAddress, name: str, mesh: Mesh, unsupported: list[Unsupported]) -> GatewayAddress:
    port = address.hbone_mtls_port or HBONE_PORT
    if port > 0xFFFF:
        raise Refused(f"{name}.hbone_mtls_port: {port} is no port")
    match address.WhichOneof("destination"):
        case "hostname":
            hostname, namespace = address.hostname.hostname.lower(), address.hostname.namespace
            return GatewayAddress(hostname, namespace, hostname.partition(".")[0], hbone_port=port)
        case "address":
            ip = _ip(address.address.address, f"{name}.address")
            if address.address.network == mesh.network:
                return GatewayAddress(ip=ip, hbone_port=port)
            sentence = f"it is on network {address.address.network!r}, which cannot be reached; connections are refused"
            unsupported.append((name, sentence))
            return GatewayAddress(f"{address.address.network}/{ip}", hbone_port=port)
    raise Refused(f"{name}: it has neither a hostname nor an address")


def _ip(raw: bytes, place: str) -> str:
    if len(raw) not in (4, 16):
        raise Refused(f"{place}: an address has {len(raw)} bytes, not 4 or 16")
    return canonical_ip(str(ipaddress.ip_address(raw)))


def _of(known: Mapping[Any, T], number: int, place: str) -> T:
    try:
        return known[number]
    except KeyError:
        raise Refused(f"{place}: {number} is not a value that is known here") from None
