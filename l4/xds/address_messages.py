"""Convert our workloads and services to `istio.workload` messages: the reverse of `l4.xds.addresses`.

Messages have no place for some of our fields: labels, declared ports, captures, whether a workload is terminating, and
names of service ports.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.wrappers_pb2 import UInt32Value

from l4._proto import workload_pb2 as wire
from l4.discovery.workload import (
    EVERYWHERE,
    ApplicationTunnel,
    AppProtocol,
    GatewayAddress,
    Scope,
    Service,
    TunnelProtocol,
    Workload,
)
from l4.xds.wire_values import PROTOCOLS, SCOPES, TUNNELS, TYPES

_TUNNELS = {its: theirs for theirs, its in TUNNELS.items()}
_TYPES = {its: theirs for theirs, its in TYPES.items()}
_PROTOCOLS = {its: theirs for theirs, its in PROTOCOLS.items()} | {AppProtocol.GRPC_WEB: wire.HTTP11}
_SCOPES = {its: theirs for theirs, its in SCOPES.items()}


@dataclass(frozen=True, slots=True)
class About:
    """What others say of a workload.

    `services` are its ports by the services that it is an endpoint of, whose keys are `NAMESPACE/HOSTNAME`. `hostname`
    is resolved if it has no address. `policies` are those that apply to it by name. `is_nameless`: its addresses lead
    to something else.
    """

    services: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    hostname: str = ""
    policies: tuple[str, ...] = ()
    is_nameless: bool = False


def key_of(service: Service) -> str:
    """Return the name of a service's resource. That of a workload is its uid."""
    return f"{service.namespace}/{service.hostname}"


def workload_message(it: Workload, about: About, network: str) -> wire.Workload:
    """`network` is that of waypoints which are known by their address."""
    region, zone, subzone = (*it.locality.split("/"), "", "", "")[:3]
    return wire.Workload(
        uid=it.uid,
        name=it.name,
        namespace=it.namespace,
        addresses=list(map(_packed, it.addresses)),
        hostname=about.hostname,
        network=it.network,
        tunnel_protocol=_TUNNELS[it.tunnel_protocol],
        native_tunnel=it.tunnel_protocol is TunnelProtocol.HBONE and not it.is_redirected,
        trust_domain=it.identity.trust_domain,
        service_account=it.identity.service_account,
        waypoint=_gateway(it.waypoint, network),
        node=it.node,
        canonical_name=it.canonical_name,
        canonical_revision=it.canonical_revision,
        workload_type=_TYPES.get(it.workload_type, wire.POD),
        workload_name=it.workload_name,
        services={
            key: wire.PortList(
                ports=[wire.Port(service_port=port, target_port=target) for port, target in sorted(its.items())]
            )
            for key, its in about.services.items()
        },
        authorization_policies=about.policies,
        status=wire.HEALTHY if it.is_healthy else wire.UNHEALTHY,
        cluster_id=it.cluster_id,
        locality=wire.Locality(region=region, zone=zone, subzone=subzone) if it.locality else None,
        network_mode=wire.HOST_NETWORK if about.is_nameless else wire.STANDARD,
        application_tunnel=_application_tunnel(it.application_tunnel),
        capacity=UInt32Value(value=it.capacity) if it.capacity != 1 else None,
    )


def _application_tunnel(it: ApplicationTunnel | None) -> wire.ApplicationTunnel | None:
    if it is None:
        return None
    return wire.ApplicationTunnel(
        protocol=wire.ApplicationTunnel.PROXY if it.has_header else wire.ApplicationTunnel.NONE, port=it.port
    )


def service_message(it: Service, addresses: Iterable[str], network: str, *, takes_unhealthy: bool) -> wire.Service:
    """`addresses` are those of its own that lead to it. With `takes_unhealthy`, all workloads that name it are its
    endpoints, otherwise the healthy ones."""
    return wire.Service(
        name=it.name,
        namespace=it.namespace,
        hostname=it.hostname,
        addresses=list(_vips(addresses, it.networks, network)),
        ports=[wire.Port(service_port=port.port, app_protocol=_PROTOCOLS[port.app_protocol]) for port in it.ports],
        subject_alt_names=it.subject_alt_names,
        waypoint=_gateway(it.waypoint, network),
        weighted_waypoints=[
            wire.WeightedWaypoint(destination=_gateway(share.waypoint, network), weight=share.weight)
            for share in it.shares
        ],
        load_balancing=_balancing(it, takes_unhealthy=takes_unhealthy),
        canonical=True,
        visibility=wire.PUBLIC if it.exported_to is None else wire.NAMESPACE,
    )


def _balancing(it: Service, *, takes_unhealthy: bool) -> wire.LoadBalancing | None:
    health = wire.LoadBalancing.ALLOW_ALL if takes_unhealthy else wire.LoadBalancing.ONLY_HEALTHY
    if it.followed is not None:
        return wire.LoadBalancing(mode=wire.LoadBalancing.PASSTHROUGH, health_policy=wire.LoadBalancing.ALLOW_ALL)
    if it.nearness == EVERYWHERE:
        return wire.LoadBalancing(health_policy=health) if takes_unhealthy else None
    return wire.LoadBalancing(
        routing_preference=list(map(_scope, it.nearness.scopes)),
        mode=wire.LoadBalancing.STRICT if it.nearness.is_strict else wire.LoadBalancing.FAILOVER,
        health_policy=health,
    )


def _scope(scope: Scope) -> wire.LoadBalancing.Scope:
    return _SCOPES[scope]


def _vips(addresses: Iterable[str], networks: Iterable[str], network: str) -> Iterator[wire.NetworkAddress]:
    for address in addresses:
        yield wire.NetworkAddress(network=network, address=_packed(address))
    for it in map(_range, networks):
        yield wire.NetworkAddress(network=network, address=it.network_address.packed, length=it.prefixlen)


def _range(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _gateway(it: GatewayAddress | None, network: str) -> wire.GatewayAddress | None:
    if it is None:
        return None
    if it.hostname:
        name = wire.NamespacedHostname(namespace=it.namespace, hostname=it.hostname)
        return wire.GatewayAddress(hostname=name, hbone_mtls_port=it.hbone_port)
    address = wire.NetworkAddress(network=network, address=_packed(it.ip))
    return wire.GatewayAddress(address=address, hbone_mtls_port=it.hbone_port)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
