"""Decide where a captured connection goes, as ztunnel does. A pure function of the registry.

In this order: a service with a waypoint goes to the waypoint, whatever its endpoints; a service without one goes to one
of its healthy endpoints; a workload's address goes to the workload's waypoint or to the workload; anything else goes to
its original destination. An unreachable waypoint is never bypassed. Of the endpoints of a service, the nearest are used
if it says so; those to avoid only if there are no others.

A service with a canary divides its connections between its waypoint and the canary, by weight. The waypoint takes those
of a canary that is unreachable.
"""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from l4.discovery.registry import Registry
from l4.discovery.workload import GatewayAddress, Nearness, Scope, Service, ServiceEndpoint, Workload, usable
from l4.hbone.connect import Authority
from policies.attributes import Identity
from policies.balancing.locality import parse_locality
from policies.balancing.weighted import pick
from policies.host_port import host_port

OUTBOUND_PORT, INBOUND_PORT, HBONE_PORT = 15001, 15006, 15008
OWN_PORTS = frozenset({OUTBOUND_PORT, INBOUND_PORT, HBONE_PORT})
"""Ports of the proxy. Applications must not call them, and our own connections to them would loop."""


@dataclass(frozen=True, slots=True)
class HboneHop:
    """Connect to `address`, expect one of `identities`, and request `authority`.

    `workload` is the peer at `address`. `service` is the application's original destination, if it was a service.
    """

    address: tuple[str, int]
    authority: Authority
    identities: frozenset[Identity]
    workload: Workload
    service: Service | None


@dataclass(frozen=True, slots=True)
class PlainHop:
    """Connect to `address` in plain TCP. `workload` is None for a destination outside the mesh."""

    address: tuple[str, int]
    workload: Workload | None
    service: Service | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The connection is reset, because it has no valid destination."""

    reason: str


Hop = HboneHop | PlainHop | Refused
Address = tuple[str, int]
Avoid = Callable[[Address], bool]
"""Whether an address should be avoided."""


def avoid_none(address: tuple[str, int]) -> bool:
    return False


def decide(
    registry: Registry, source: Workload, destination: tuple[str, int], roll: float, avoid: Avoid = avoid_none
) -> Hop:
    """Return the next hop of a connection from `source` to `destination`. `roll` in [0, 1) selects an endpoint."""
    ip, port = destination
    if port in OWN_PORTS and ipaddress.ip_address(ip).is_loopback:
        return Refused("attempted recursive call to ourselves")
    workload = registry.workload_at(ip)
    service = registry.service_at(ip) if workload is None else None
    if service is not None and not service.is_visible_in(source.namespace):
        service = None
    if service is not None and service.waypoint is not None:
        chosen, rest = _share(service, service.waypoint, roll)
        waypoints = (chosen,) if chosen == service.waypoint else (chosen, service.waypoint)
        return _through(registry, waypoints, Authority(ip, port), service, source, rest, avoid)
    if service is not None:
        return _to_endpoint(service, destination, source, roll, avoid)
    if workload is None:
        return PlainHop(destination, None, None)
    if workload.waypoint is not None and not _is_of(registry, source, workload.waypoint):
        return _through(registry, (workload.waypoint,), Authority(ip, port), None, source, roll, avoid)
    return _direct(workload, ip, port, None, source)


def _is_of(registry: Registry, source: Workload, waypoint: GatewayAddress) -> bool:
    """Whether `source` is the waypoint itself, whose connections to workloads its ztunnel carries."""
    service = registry.services.get(waypoint.hostname) if waypoint.hostname else registry.service_at(waypoint.ip)
    if service is not None:
        return any(it.workload.uid == source.uid for it in service.endpoints)
    return waypoint.ip in source.addresses


def _share(service: Service, waypoint: GatewayAddress, roll: float) -> tuple[GatewayAddress, float]:
    """Return the waypoint in whose share `roll` falls, and where in the share that is, which selects its endpoint."""
    point = roll * sum(it.weight for it in service.shares)
    for it in service.shares:
        if point < it.weight:
            return it.waypoint, point / it.weight
        point -= it.weight
    return waypoint, roll


def _through(
    registry: Registry,
    waypoints: tuple[GatewayAddress, ...],
    authority: Authority,
    service: Service | None,
    source: Workload,
    roll: float,
    avoid: Avoid,
) -> Hop:
    """Return the hop to the first of `waypoints` that can be used and needs not be avoided, or else to the last."""
    for waypoint in waypoints:
        hop = _to_waypoint(registry, waypoint, authority, service, source, roll, avoid)
        if isinstance(hop, HboneHop) and not avoid(hop.address):
            break
    return hop


def _to_waypoint(
    registry: Registry,
    waypoint: GatewayAddress,
    authority: Authority,
    service: Service | None,
    source: Workload,
    roll: float,
    avoid: Avoid,
) -> HboneHop | Refused:
    found = _waypoint_endpoint(registry, waypoint, authority.host, source, roll, avoid)
    if found is None:
        name = waypoint.hostname or waypoint.ip
        return Refused(f"unknown waypoint: {name} has no healthy workload for port {waypoint.hbone_port}")
    workload, port = found
    if workload.network != source.network:
        return Refused(f"waypoint {workload.name} is on another network, {workload.network!r}")
    address = (same_family(workload, authority.host), port)
    return HboneHop(address, authority, frozenset({workload.identity}), workload, service)


def _waypoint_endpoint(
    registry: Registry, waypoint: GatewayAddress, ip: str, source: Workload, roll: float, avoid: Avoid
) -> tuple[Workload, int] | None:
    port = waypoint.hbone_port
    service = registry.services.get(waypoint.hostname) if waypoint.hostname else registry.service_at(waypoint.ip)
    if service is not None:

        def is_avoided(endpoint: ServiceEndpoint) -> bool:
            return avoid((same_family(endpoint.workload, ip), endpoint.ports[port]))

        endpoint = _pick(service, port, source, roll, None if avoid is avoid_none else is_avoided)
        return None if endpoint is None else (endpoint.workload, endpoint.ports[port])
    workload = registry.workload_at(waypoint.ip) if waypoint.ip else None
    return (workload, port) if workload is not None and workload.is_healthy else None


def _to_endpoint(service: Service, destination: tuple[str, int], source: Workload, roll: float, avoid: Avoid) -> Hop:
    ip, port = destination

    def is_avoided(endpoint: ServiceEndpoint) -> bool:
        is_plain = endpoint.workload.tunnel_identity is None
        return avoid((same_family(endpoint.workload, ip), endpoint.ports[port] if is_plain else HBONE_PORT))

    endpoint = _pick(service, port, source, roll, None if avoid is avoid_none else is_avoided)
    if endpoint is None and any(it.workload.tunnel_identity is not None for it in service.names):
        return Refused(
            f"the endpoints of {service.hostname} accept tunnels but are DNS names, which only a waypoint resolves"
        )
    if endpoint is None and service.is_entry:
        return PlainHop(destination, None, service)
    if endpoint is None:
        return Refused(f"no healthy upstream: {host_port(ip, port)} ({service.hostname})")
    return _direct(endpoint.workload, same_family(endpoint.workload, ip), endpoint.ports[port], service, source)


def _direct(workload: Workload, ip: str, port: int, service: Service | None, source: Workload) -> Hop:
    if workload.network != source.network:
        return Refused(f"no valid routing destination for workload {workload.name}: it is on another network")
    identity = workload.tunnel_identity
    if identity is None:
        return PlainHop((ip, port), workload, service)
    return HboneHop((ip, HBONE_PORT), Authority(ip, port), frozenset({identity}), workload, service)


def _pick(
    service: Service,
    port: int,
    source: Workload,
    roll: float,
    is_avoided: Callable[[ServiceEndpoint], bool] | None,
) -> ServiceEndpoint | None:
    """Return a usable endpoint that has the port, near to the source if that matters, at random by capacity."""
    fit = usable(it for it in service.endpoints if port in it.ports and it.workload.addresses)
    nearness = service.nearness
    if nearness.is_strict:
        fit = [it for it in fit if _rank(it.workload, source, nearness) == len(nearness.scopes)]
    if is_avoided is not None:
        fit = [it for it in fit if not is_avoided(it)] or fit
    if nearness.scopes and fit:
        ranks = [_rank(it.workload, source, nearness) for it in fit]
        nearest = max(ranks)
        fit = [it for it, rank in zip(fit, ranks, strict=True) if rank == nearest]
    return pick(fit, [it.workload.capacity for it in fit], roll)


def _rank(workload: Workload, source: Workload, nearness: Nearness) -> int:
    """Return how many scopes both have in common, up to the first that they do not."""
    both = zip(_places(workload, nearness), _places(source, nearness), strict=True)
    return next((number for number, (one, other) in enumerate(both) if one != other), len(nearness.scopes))


def _places(workload: Workload, nearness: Nearness) -> Iterator[str]:
    region, zone, subzone = parse_locality(workload.locality)
    its = {
        Scope.NETWORK: workload.network,
        Scope.REGION: region,
        Scope.ZONE: zone,
        Scope.SUBZONE: subzone,
        Scope.NODE: workload.node,
        Scope.CLUSTER: workload.cluster_id,
    }
    return map(its.__getitem__, nearness.scopes)


def same_family(workload: Workload, ip: str) -> str:
    """Return the workload's address of the same family as `ip`, or else its first one."""
    is_v6 = ":" in ip
    for address in workload.addresses:
        if (":" in address) == is_v6:
            return address
    return workload.addresses[0]
