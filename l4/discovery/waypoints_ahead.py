"""The waypoints in front of a workload, and the identities of their pods."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from l4.discovery.index import Update
from l4.discovery.registry import Registry
from l4.discovery.workload import GatewayAddress, Service, Workload
from policies.attributes import Identity

Concerns = Callable[[Workload], bool]


def everybody(workload: Workload) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class WaypointsAhead:
    """Waypoints of the workloads that `concerns` selects, such as those of one node.

    `by_uid` are the waypoints of each workload's services, `identities` those of the pods of all waypoints.
    """

    by_uid: Mapping[str, frozenset[GatewayAddress]]
    identities: Mapping[GatewayAddress, frozenset[Identity]]
    concerns: Concerns = everybody

    def of(self, workload: Workload) -> Iterator[tuple[GatewayAddress, frozenset[Identity]]]:
        """Yield the waypoints through which clients reach the workload, with the identities of their pods."""
        waypoints = set(self.by_uid.get(workload.uid, ()))
        if workload.waypoint is not None:
            waypoints.add(workload.waypoint)
        for waypoint in sorted(waypoints, key=lambda it: (it.namespace, it.gateway)):
            yield waypoint, self.identities.get(waypoint, frozenset())

    def follow(self, update: Update) -> "WaypointsAhead":
        """Return the waypoints after some changes; the same object if nothing has changed."""
        touched: set[str] = set()
        for moved in update.services:
            before, after = (_uids(it, self.concerns) for it in (moved.before, moved.after))
            touched |= before ^ after if _waypoints(moved.before) == _waypoints(moved.after) else before | after
        asked = {it for moved in update.services for it in _waypoints(moved.after)}
        asked |= {it for moved in update.workloads for it in _waypoints(moved.after)}
        identities = _identities(update.registry, asked | self.identities.keys())
        if not touched and identities == self.identities:
            return self
        found = _by_uid(update.registry, lambda workload: workload.uid in touched) if touched else {}
        others = {uid: its for uid, its in self.by_uid.items() if uid not in touched}
        return WaypointsAhead(others | found, identities, self.concerns)


@dataclass(frozen=True, slots=True)
class NoWaypoints:
    """Leaves it to the policies what waypoints may do: a control plane has decided that."""

    concerns: Concerns

    def of(self, workload: Workload) -> Iterator[tuple[GatewayAddress, frozenset[Identity]]]:
        return iter(())

    def follow(self, update: Update) -> "NoWaypoints":
        return self


def waypoints_ahead(registry: Registry, concerns: Concerns = everybody) -> WaypointsAhead:
    asked = {it for bound in registry.services.values() for it in _waypoints(bound)}
    asked |= {it for bound in registry.workloads.values() for it in _waypoints(bound)}
    return WaypointsAhead(_by_uid(registry, concerns), _identities(registry, asked), concerns)


def _waypoints(bound: Service | Workload | None) -> tuple[GatewayAddress, ...]:
    if isinstance(bound, Service):
        return bound.waypoints
    return (bound.waypoint,) if bound is not None and bound.waypoint is not None else ()


def _uids(service: Service | None, concerns: Concerns) -> set[str]:
    """Return the workloads of a service with a waypoint."""
    if service is None or service.waypoint is None:
        return set()
    return {endpoint.workload.uid for endpoint in service.endpoints if concerns(endpoint.workload)}


def _by_uid(registry: Registry, concerns: Concerns) -> dict[str, frozenset[GatewayAddress]]:
    found: dict[str, frozenset[GatewayAddress]] = {}
    for service in registry.services.values():
        for uid in _uids(service, concerns):
            found[uid] = found.get(uid, frozenset()) | frozenset(service.waypoints)
    return found


def _identities(registry: Registry, waypoints: Iterable[GatewayAddress]) -> dict[GatewayAddress, frozenset[Identity]]:
    return {waypoint: identities_of(registry, waypoint) for waypoint in waypoints}


def identities_of(registry: Registry, waypoint: GatewayAddress) -> frozenset[Identity]:
    """Return the identities of a waypoint's pods."""
    service = registry.services.get(waypoint.hostname) if waypoint.hostname else registry.service_at(waypoint.ip)
    if service is not None:
        return frozenset(endpoint.workload.identity for endpoint in service.endpoints)
    workload = registry.workload_at(waypoint.ip) if waypoint.ip else None
    return frozenset({workload.identity}) if workload is not None else frozenset()
