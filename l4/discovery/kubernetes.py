"""Kubernetes objects → the registry: workloads, services, and which waypoint stands before them.

Pure. Labels and annotations mean what they mean to Istio ambient. What can't be bound is left unbound, as istiod does,
and told as a problem.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from l4.config.resources import Change, Kinds, Resource, Resources
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.endpoints import ServiceEndpoints, ServiceName, is_bare, tcp
from l4.discovery.entries import Entries
from l4.discovery.members import Members
from l4.discovery.mesh import Mesh
from l4.discovery.objects import (
    Endpoints,
    EndpointSlice,
    Gateway,
    GatewayClass,
    NamespaceObject,
    NodeObject,
    Pod,
    ServiceObject,
)
from l4.discovery.peer_authentication import PeerAuthentication
from l4.discovery.ports import app_protocol
from l4.discovery.registry import Registry, meant
from l4.discovery.service_entry import ServiceEntry, WorkloadEntry
from l4.discovery.waypoints import Bindings
from l4.discovery.workload import GatewayAddress, Service, ServicePort, Workload

T = TypeVar("T")

__all__ = ["KINDS", "Gateway", "Index", "Mesh", "Moved", "Update", "app_protocol", "registry_of"]

KINDS: Kinds = {
    ("", "Endpoints"): Endpoints,
    ("", "Namespace"): NamespaceObject,
    ("", "Node"): NodeObject,
    ("", "Pod"): Pod,
    ("", "Service"): ServiceObject,
    ("discovery.k8s.io", "EndpointSlice"): EndpointSlice,
    ("gateway.networking.k8s.io", "Gateway"): Gateway,
    ("gateway.networking.k8s.io", "GatewayClass"): GatewayClass,
    ("networking.istio.io", "ServiceEntry"): ServiceEntry,
    ("networking.istio.io", "WorkloadEntry"): WorkloadEntry,
    ("security.istio.io", "AuthorizationPolicy"): AuthorizationPolicy,
    ("security.istio.io", "PeerAuthentication"): PeerAuthentication,
}


_DISTRIBUTION = "networking.istio.io/traffic-distribution"


def registry_of(resources: Resources, mesh: Mesh) -> Registry:
    """Index everything that the objects say."""
    return Index(resources, mesh).registry


@dataclass(frozen=True, slots=True)
class Moved(Generic[T]):
    """What is another now; None before it came, and after it went."""

    before: T | None
    after: T | None


@dataclass(frozen=True, slots=True)
class Update:
    """The registry after some changes, and what is another in it: each by itself, of workloads those that came and
    went as well. `addresses` are those at which another workload may be found."""

    registry: Registry
    workloads: tuple[Moved[Workload], ...] = ()
    services: tuple[tuple[Service, Service], ...] = ()
    addresses: frozenset[str] = frozenset()


class Index:
    """The registry, and what it takes to follow pods and EndpointSlices in it at the cost of what they touch."""

    def __init__(self, resources: Resources, mesh: Mesh) -> None:
        self._bindings = bindings = Bindings(resources)
        self._members = members = Members(resources, mesh, bindings)
        self._endpoints = endpoints = ServiceEndpoints(resources, members, mesh)
        services: list[Service] = []
        aliases: dict[tuple[str, str], str] = {}
        self._objects: dict[ServiceName, ServiceObject] = {}
        self._selecting: dict[tuple[str, str, str], list[ServiceName]] = {}
        for service in resources.of(ServiceObject):
            if service.value.spec.type == "ExternalName":
                aliases[service.key.namespace, service.key.name] = service.value.spec.external_name
            else:
                services.append(_service(service, endpoints, mesh, bindings.of_service(service)))
                self._remember(service)
        entries = Entries(resources, members, mesh, bindings)
        services.extend(entries.services(tuple(services)))
        workloads = [member.workload for member in members]
        workloads.extend(endpoint.workload for service in services for endpoint in service.endpoints)
        nameless = {member.workload.uid for member in members if member.is_nameless}
        nameless.update(_behind_their_own_service(services))
        self._entries = entries
        problems = tuple(sorted({*bindings.problems, *entries.problems}))
        self._nameless = nameless
        self.registry = Registry.build(services, workloads, nameless, problems, aliases)
        self._at: dict[str, dict[str, Workload]] = {}
        for workload in self.registry.workloads.values():
            self._put(workload)

    def update(self, changes: Iterable[Change]) -> Update | None:
        """Follow the changes; None where the objects must be indexed anew, and this index is of no use any more."""
        touched: set[ServiceName] = set()
        moved: dict[str, Moved[Workload]] = {}
        has_other_problems = False
        for change in changes:
            its = [it for it in (change.before, change.after) if it is not None]
            if any(it.value.metadata.namespace != it.key.namespace for it in its if hasattr(it.value, "metadata")):
                return None
            if all(isinstance(it.value, EndpointSlice) for it in its):
                if change.before is not None:
                    touched.add(self._endpoints.remove(change.before))
                if change.after is not None:
                    touched.add(self._endpoints.add(change.after))
            elif all(isinstance(it.value, Pod) for it in its):
                if any(self._is_meant_by_an_entry(it) for it in its):
                    return None
                problem = self._bindings.problem(its[0].key)
                pod = self._follow(change)
                has_other_problems |= problem != self._bindings.problem(its[0].key)
                moved.update((it.uid, pod) for it in (pod.before, pod.after) if it is not None)
                touched.update(*map(self._reached_by, its))
            else:
                return None
        if any(self.registry.service_named(*name) is None for name in touched & self._objects.keys()):
            return None  # another service has its hostname
        services = [pair for name in sorted(touched) if (pair := self._changed(name)) is not None]
        if any(self.registry.services.get(before.hostname) is not before for before, _ in services):
            return None
        had = {uid: it for before, _ in services for uid, it in _bare(before).items()}
        has = {uid: it for _, after in services for uid, it in _bare(after).items()}
        if had != has and self._endpoints.has_mirrored:
            return None  # the addresses of Endpoints and of an EndpointSlice may have the same uid
        moved.update((uid, Moved(had.get(uid), has.get(uid))) for uid in had.keys() | has.keys())
        return self._updated([it for it in moved.values() if it.before != it.after], services, has_other_problems)

    def _remember(self, service: Resource[ServiceObject]) -> None:
        name = service.key.namespace, service.key.name
        self._objects[name] = service.value
        meta, selector = service.value.metadata, service.value.spec.selector
        for label, value in list(selector.items())[:1]:
            self._selecting.setdefault((meta.namespace, label, value), []).append(name)

    def _is_meant_by_an_entry(self, pod: Resource[Pod]) -> bool:
        """Whether a WorkloadEntry or a ServiceEntry has its address, or selects it."""
        labels, addresses = pod.value.metadata.labels, pod.value.addresses
        return any(map(self._members.has_entry_at, addresses)) or self._entries.mean(
            pod.key.namespace, labels, addresses
        )

    def _follow(self, change: Change) -> Moved[Workload]:
        before = after = None
        if change.before is not None:
            before = self._members.remove(change.before.key.namespace, change.before.key.name)
        if change.after is not None:
            after = self._members.add(change.after)
        for member in (before, after):
            if member is not None:
                self._nameless.discard(member.workload.uid)
        if after is not None and after.is_nameless:
            self._nameless.add(after.workload.uid)
        return Moved(*(member.workload if member is not None else None for member in (before, after)))

    def _reached_by(self, pod: Resource[Pod]) -> set[ServiceName]:
        """The services that may have it among their endpoints."""
        namespace, labels = pod.key.namespace, pod.value.metadata.labels
        found = self._endpoints.naming((namespace, pod.key.name), pod.value.addresses)
        return found.union(*(self._selecting.get((namespace, *label), ()) for label in labels.items()))

    def _changed(self, name: ServiceName) -> tuple[Service, Service] | None:
        declared = self._objects.get(name)
        before = self.registry.service_named(*name) if declared is not None else None
        if declared is None or before is None:
            return None
        endpoints = self._endpoints.of(declared)
        return (before, replace(before, endpoints=endpoints)) if endpoints != before.endpoints else None

    def _updated(
        self,
        workloads: Sequence[Moved[Workload]],
        services: Sequence[tuple[Service, Service]],
        has_other_problems: bool,
    ) -> Update:
        for it in workloads:
            if it.before is not None:
                self._drop(it.before)
        for it in workloads:
            if it.after is not None:
                self._put(it.after)
        addresses = frozenset(
            address for it in workloads for its in (it.before, it.after) if its is not None for address in its.addresses
        )
        problems = self.registry.problems
        if has_other_problems:
            problems = tuple(sorted({*self._bindings.problems, *self._entries.problems}))
        self.registry = self.registry.updated(
            {uid: it.after for it in workloads if (uid := _uid(it))},
            {address: self._meant_by(address) for address in addresses},
            services,
            problems,
        )
        return Update(self.registry, tuple(workloads), tuple(services), addresses)

    def _put(self, workload: Workload) -> None:
        for address in workload.addresses:
            self._at.setdefault(address, {})[workload.uid] = workload

    def _drop(self, workload: Workload) -> None:
        for address in workload.addresses:
            self._at.get(address, {}).pop(workload.uid, None)

    def _meant_by(self, address: str) -> Workload | None:
        its = self._at.get(address, {})
        return meant(its[uid] for uid in sorted(its) if uid not in self._nameless)


def _uid(moved: Moved[Workload]) -> str:
    it = moved.after or moved.before
    assert it is not None
    return it.uid


def _bare(service: Service) -> dict[str, Workload]:
    return {it.workload.uid: it.workload for it in service.endpoints if is_bare(it.workload)}


def _behind_their_own_service(services: Iterable[Service]) -> Iterator[str]:
    """Of ServiceEntries with resolution NONE: whoever calls the address means the service."""
    for service in services:
        for endpoint in service.endpoints if service.is_entry else ():
            if not set(service.addresses).isdisjoint(endpoint.workload.addresses):
                yield endpoint.workload.uid


def _service(
    resource: Resource[ServiceObject], endpoints: ServiceEndpoints, mesh: Mesh, waypoint: GatewayAddress | None
) -> Service:
    meta, spec = resource.value.metadata, resource.value.spec
    return Service(
        name=meta.name,
        namespace=meta.namespace,
        hostname=f"{meta.name}.{meta.namespace}.svc.{mesh.cluster_domain}",
        addresses=spec.addresses,
        ports=tuple(ServicePort(port.port, port.name, app_protocol(port)) for port in tcp(spec.ports)),
        endpoints=endpoints.of(resource.value),
        waypoint=waypoint,
        names=endpoints.names(resource.value),
        traffic_distribution=meta.annotations.get(_DISTRIBUTION, "") or spec.traffic_distribution,
    )
