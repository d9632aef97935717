"""Index of Kubernetes objects, which builds the registry and updates it.

Changes of Pods, WorkloadEntries, Nodes, Services, EndpointSlices and Endpoints cost in proportion to what they affect.
After any other change, or if the effect of a change is not clear, everything is indexed anew.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from l4.config.documents import ObjectKey, Problem
from l4.config.resources import Change, Resource, Resources
from l4.discovery.endpoints import ServiceEndpoints, ServiceName, is_bare, tcp
from l4.discovery.entries import Entries
from l4.discovery.label_names import TRAFFIC_DISTRIBUTION
from l4.discovery.members import Member, Members, MovedMember
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
from l4.discovery.ports import app_protocol
from l4.discovery.registry import Moved, Registry, meant
from l4.discovery.service_entry import ServiceEntry, WorkloadEntry
from l4.discovery.waypoints import Bindings
from l4.discovery.workload import EVERYWHERE, Nearness, Scope, Service, ServicePort, Workload

_FOLLOWED = (NodeObject, Pod, WorkloadEntry, ServiceObject, EndpointSlice, Endpoints)
"""Processed in this order, because later kinds depend on earlier ones."""
READ = frozenset({*_FOLLOWED, NamespaceObject, Gateway, GatewayClass, ServiceEntry})
"""The kinds of which a registry is made."""

_ZONE = (Scope.NETWORK, Scope.REGION, Scope.ZONE)
_NEAR = {
    "PreferClose": Nearness(_ZONE),
    "PreferSameZone": Nearness(_ZONE),
    "PreferSameNode": Nearness((*_ZONE, Scope.SUBZONE, Scope.NODE)),
}
"""What istiod makes of a traffic distribution."""
_ON_NODE = Nearness((Scope.NODE,), is_strict=True)

_Holder = tuple[bool, str, str, str]
"""A service, in the order of services: whether it is a ServiceEntry's, its namespace, name and host."""


@dataclass(frozen=True, slots=True)
class Update:
    """The registry after some changes, with the changed workloads and services.

    `addresses` are those that may now belong to another workload.
    """

    registry: Registry
    workloads: tuple[Moved[Workload], ...] = ()
    services: tuple[Moved[Service], ...] = ()
    addresses: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Touched:
    """The objects that a set of changes affects."""

    services: set[ServiceName] = field(default_factory=set)
    declared: set[ServiceName] = field(default_factory=set)
    """Services whose objects were changed or removed."""
    entries: dict[ObjectKey, Resource[ServiceEntry]] = field(default_factory=dict)
    workloads: dict[str, Workload | None] = field(default_factory=dict)
    """Current workloads by uid; None if removed."""
    problems: dict[ObjectKey, Problem | None] = field(default_factory=dict)
    """Previous problems of objects' bindings."""
    addresses: set[str] = field(default_factory=set)
    """Addresses that may now belong to another workload, though the workloads are unchanged."""


class Index:
    """All objects, indexed. The result is `registry`."""

    def __init__(self, resources: Resources, mesh: Mesh) -> None:
        self._mesh = mesh
        self._bindings = bindings = Bindings(resources)
        self._members = members = Members(resources, mesh, bindings)
        self._endpoints = ServiceEndpoints(resources, members, mesh)
        self._aliases: dict[ServiceName, str] = {}
        self._objects: dict[ServiceName, Resource[ServiceObject]] = {}
        self._selecting: dict[tuple[str, str, str], list[ServiceName]] = {}
        for declared in resources.of(ServiceObject):
            self._declare(declared)
        services = list(map(self._service, self._objects.values()))
        self._entries = Entries(resources, members, mesh, bindings)
        services.extend(self._entries.services(tuple(services)))
        self._held: dict[str, dict[_Holder, Workload]] = {}
        self._held_at: dict[str, set[str]] = {}
        for service in services:
            self._hold(service)
        workloads = [member.workload for member in members]
        workloads.extend(endpoint.workload for service in services for endpoint in service.endpoints)
        self._nameless = {member.workload.uid for member in members if member.is_nameless}
        self._nameless.update(_behind_their_own_service(services))
        problems = tuple(sorted({*bindings.problems, *self._entries.problems}))
        self.registry = Registry.build(services, workloads, self._nameless, problems, dict(self._aliases))

    def update(self, changes: Iterable[Change]) -> Update | None:
        """Apply changes. Returns None if the objects must be indexed anew; this index is then unusable."""
        of_kinds: dict[type, list[Change]] = {kind: [] for kind in _FOLLOWED}
        touched = _Touched()
        for change in changes:
            its = _both(change)
            if type(its[0].value) not in READ:
                continue
            of_kind = of_kinds.get(type(its[0].value))
            if of_kind is None or not all(map(_stands_where_it_says, its)):
                return None
            of_kind.append(change)
            touched.problems[its[0].key] = self._bindings.problem(its[0].key)
        if not self._follow_members(of_kinds, touched) or not self._follow_services(of_kinds, touched):
            return None
        known = self.registry.service_named
        if any(known(*name) is None for name in touched.services & self._objects.keys() - touched.declared):
            return None  # another service owns its hostname
        services = list(self._changed(touched))
        if any(self.registry.services.get(it.before.hostname) is not it.before for it in services if it.before):
            return None  # an entry owns its hostname
        for it in services:
            self._rehold(it, touched)
        return self._updated(touched, services)

    # -- updating ------------------------------------------------------------------------------------------------------

    def _follow_members(self, of_kinds: dict[type, list[Change]], touched: _Touched) -> bool:
        """Apply changes of members. Returns False if a ServiceEntry refers to the address of a changed member."""
        moved: list[MovedMember] = []
        for change in of_kinds[NodeObject]:
            name = _key(change).name
            after = change.after.value.locality if change.after is not None else ""
            if self._members.localities.get(name, "") != after:
                touched.services.update(self._endpoints.on_node(name))
                moved.extend(self._members.locate(name, after))
        for change in of_kinds[Pod]:
            before = self._members.remove(change.before) if change.before is not None else None
            moved.append(MovedMember(before, self._members.add(change.after) if change.after is not None else None))
            for pod in _both(change):
                touched.services.update(self._endpoints.naming((pod.key.namespace, pod.key.name), pod.value.addresses))
        for change in of_kinds[WorkloadEntry]:
            before = self._members.remove_entry(change.before) if change.before is not None else None
            after = self._members.add_entry(change.after) if change.after is not None else None
            moved.append(MovedMember(before, after))
        addresses = {address for it in moved for member in _members(it) for address in member.workload.addresses}
        if self._entries.mean(addresses):
            return False
        for entry in self._members.entries_at(addresses):
            touched.problems.setdefault(entry.key, self._bindings.problem(entry.key))
            moved.append(self._members.put_again(entry))
        for it in moved:
            self._reach(it, touched)
        return True

    def _reach(self, moved: MovedMember, touched: _Touched) -> None:
        """Record the services that may have the member as an endpoint."""
        for member in _members(moved):
            workload, (_, namespace, name) = member.workload, member.order
            if _is_its_own(member):
                touched.workloads.setdefault(workload.uid, None)
                self._nameless.discard(workload.uid)
            touched.services.update(self._endpoints.naming((namespace, name), workload.addresses))
            for label in member.labels.items():
                touched.services.update(self._selecting.get((namespace, *label), ()))
            touched.entries.update((it.key, it) for it in self._entries.selecting(namespace, member.labels))
        before, after = moved.before, moved.after
        if before is not None and _is_its_own(before):
            touched.workloads[before.workload.uid] = None
        if before is not None and after is not None and before.is_nameless != after.is_nameless:
            touched.addresses.update(after.workload.addresses)
        if after is not None and _is_its_own(after):
            touched.workloads[after.workload.uid] = after.workload
            if after.is_nameless:
                self._nameless.add(after.workload.uid)

    def _follow_services(self, of_kinds: dict[type, list[Change]], touched: _Touched) -> bool:
        """Apply changes of services. Returns False if two services share a name or an address."""
        endpoints = self._endpoints
        for change in of_kinds[EndpointSlice]:
            if change.before is not None:
                touched.services.add(endpoints.remove(change.before))
            if change.after is not None:
                touched.services.add(endpoints.add(change.after))
        for change in of_kinds[Endpoints]:
            if change.before is not None:
                touched.services.add(endpoints.remove_endpoints(change.before))
            if change.after is not None:
                touched.services.add(endpoints.add_endpoints(change.after))
        for change in of_kinds[ServiceObject]:
            name = _key(change).namespace, _key(change).name
            touched.services.add(name)
            touched.declared.add(name)
            if change.before is not None:
                self._undeclare(change.before)
            if change.after is not None:
                self._declare(change.after)
        return not of_kinds[ServiceObject] or not self._is_shared(of_kinds[ServiceObject])

    def _is_shared(self, changes: Iterable[Change]) -> bool:
        hostnames = {self._hostname(it) for change in changes for it in _both(change)}
        addresses = {address for change in changes for it in _both(change) for address in it.value.spec.addresses}
        if any(self._entries.mean(addresses, hostname) for hostname in hostnames):
            return True
        names = {(_key(change).namespace, _key(change).name) for change in changes}
        declared = [
            address for name in names & self._objects.keys() for address in self._objects[name].value.spec.addresses
        ]
        others = (it for it in self.registry.services.values() if (it.namespace, it.name) not in names)
        return len(set(declared)) < len(declared) or any(
            it.hostname in hostnames or not addresses.isdisjoint(it.addresses) for it in others
        )

    def _declare(self, service: Resource[ServiceObject]) -> None:
        name = service.key.namespace, service.key.name
        if service.value.spec.type == "ExternalName":
            self._aliases[name] = service.value.spec.external_name
            return
        self._objects[name] = service
        for label, value in list(service.value.spec.selector.items())[:1]:
            self._selecting.setdefault((name[0], label, value), []).append(name)

    def _undeclare(self, service: Resource[ServiceObject]) -> None:
        name = service.key.namespace, service.key.name
        self._bindings.forget(service.key)
        self._aliases.pop(name, None)
        if self._objects.pop(name, None) is not None:
            for label, value in list(service.value.spec.selector.items())[:1]:
                self._selecting[name[0], label, value].remove(name)

    def _changed(self, touched: _Touched) -> Iterator[Moved[Service]]:
        """Yield the services that have changed."""
        for name in sorted(touched.services):
            declared, before = self._objects.get(name), self.registry.service_named(*name)
            after = None
            if declared is not None and (before is None or name in touched.declared):
                after = self._service(declared)
            elif declared is not None and before is not None:
                endpoints, names = self._endpoints.of(declared.value), self._endpoints.names(declared.value)
                is_same = (endpoints, names) == (before.endpoints, before.names)
                after = before if is_same else replace(before, endpoints=endpoints, names=names)
            if before != after:
                yield Moved(before, after)
        for entry in touched.entries.values():
            for was, now in self._entries.again(entry, self.registry.services):
                if was != now:
                    yield Moved(was, now)

    def _updated(self, touched: _Touched, services: list[Moved[Service]]) -> Update:
        known = self.registry.workloads
        moved = [Moved(known.get(uid), now) for uid, now in touched.workloads.items() if known.get(uid) != now]
        addresses = frozenset(
            address for it in moved for its in (it.before, it.after) if its is not None for address in its.addresses
        ).union(touched.addresses)
        problems = self.registry.problems
        if any(self._bindings.problem(key) != problem for key, problem in touched.problems.items()):
            problems = tuple(sorted({*self._bindings.problems, *self._entries.problems}))
        aliases = self.registry.aliases if self.registry.aliases == self._aliases else dict(self._aliases)
        is_same = problems == self.registry.problems and aliases is self.registry.aliases
        if not moved and not services and not addresses and is_same:
            return Update(self.registry)
        self.registry = self.registry.updated(
            {it.uid: moved.after for moved in moved if (it := moved.after or moved.before) is not None},
            {address: self._meant_by(address) for address in addresses},
            services,
            problems,
            aliases,
        )
        return Update(self.registry, tuple(moved), tuple(services), addresses)

    # -- workloads that exist only as endpoints ------------------------------------------------------------------------

    def _hold(self, service: Service) -> None:
        for endpoint in service.endpoints:
            it = endpoint.workload
            if _is_held(it):
                self._held.setdefault(it.uid, {})[self._holder(service)] = it
                for address in it.addresses:
                    self._held_at.setdefault(address, set()).add(it.uid)

    def _rehold(self, moved: Moved[Service], touched: _Touched) -> None:
        if moved.before is not None:
            for it in (endpoint.workload for endpoint in moved.before.endpoints):
                if _is_held(it):
                    touched.workloads[it.uid] = None
                    self._held.get(it.uid, {}).pop(self._holder(moved.before), None)
                    if not self._held.get(it.uid, True):
                        del self._held[it.uid]
                        for address in it.addresses:
                            self._held_at.get(address, set()).discard(it.uid)
        if moved.after is not None:
            self._hold(moved.after)
            for it in (endpoint.workload for endpoint in moved.after.endpoints):
                if _is_held(it):
                    touched.workloads[it.uid] = None
        for uid in touched.workloads.keys() & self._held.keys():
            touched.workloads[uid] = self._held_by_last(uid)

    def _held_by_last(self, uid: str) -> Workload:
        return self._held[uid][max(self._held[uid])]

    def _holder(self, service: Service) -> _Holder:
        return service.is_entry, service.namespace, service.name, service.hostname

    def _meant_by(self, address: str) -> Workload | None:
        found = {it.workload.uid: it.workload for it in self._members.all_at(address)}
        found.update((uid, self._held_by_last(uid)) for uid in self._held_at.get(address, ()))
        return meant(found[uid] for uid in sorted(found) if uid not in self._nameless)

    # -- services ------------------------------------------------------------------------------------------------------

    def _hostname(self, resource: Resource[ServiceObject]) -> str:
        meta = resource.value.metadata
        return f"{meta.name}.{meta.namespace}.svc.{self._mesh.cluster_domain}"

    def _service(self, resource: Resource[ServiceObject]) -> Service:
        meta, spec = resource.value.metadata, resource.value.spec
        bound = self._bindings.of_service(resource)
        distribution = meta.annotations.get(TRAFFIC_DISTRIBUTION, "") or spec.traffic_distribution
        return Service(
            name=meta.name,
            namespace=meta.namespace,
            hostname=self._hostname(resource),
            addresses=spec.addresses,
            ports=tuple(ServicePort(port.port, port.name, app_protocol(port)) for port in tcp(spec.ports)),
            endpoints=self._endpoints.of(resource.value),
            waypoint=bound.waypoint,
            shares=bound.shares,
            names=self._endpoints.names(resource.value),
            traffic_distribution=distribution,
            nearness=_ON_NODE if spec.internal_traffic_policy == "Local" else _NEAR.get(distribution, EVERYWHERE),
        )


def _both(change: Change) -> list[Resource[Any]]:
    return [it for it in (change.before, change.after) if it is not None]


def _key(change: Change) -> ObjectKey:
    return _both(change)[0].key


def _stands_where_it_says(resource: Resource[Any]) -> bool:
    return isinstance(resource.value, NodeObject) or resource.value.metadata.namespace == resource.key.namespace


def _members(moved: MovedMember) -> list[Member]:
    return [it for it in (moved.before, moved.after) if it is not None]


def _is_its_own(member: Member) -> bool:
    """False for a WorkloadEntry that refers to a pod, which has its own workload."""
    return not member.is_entry or not _is_pod(member.workload)


def _is_pod(workload: Workload) -> bool:
    return "//Pod/" in workload.uid


def _is_held(workload: Workload) -> bool:
    """Whether the workload exists only as an endpoint of a service."""
    return "/networking.istio.io/ServiceEntry/" in workload.uid or is_bare(workload)


def _behind_their_own_service(services: Iterable[Service]) -> Iterator[str]:
    """Yield workloads of ServiceEntries with resolution NONE, whose address belongs to the service."""
    for service in services:
        for endpoint in service.endpoints if service.is_entry else ():
            if not set(service.addresses).isdisjoint(endpoint.workload.addresses):
                yield endpoint.workload.uid
