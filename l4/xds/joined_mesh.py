"""A registry of services that objects describe, and of workloads that a discovery server sends.

Objects say everything about a service: its addresses, ports, protocols, and waypoint. The server says which workloads
its endpoints are, and everything about them, except what its messages have no place for:

- Labels. Of a pod that is among the objects, too, its labels, declared ports, and whether it is terminating are used.
  Of others, only the labels are known that a canonical name and revision stand for (`carried_labels`).
- Endpoints with a DNS name, and the endpoint of a ServiceEntry with resolution NONE and one address. Servers may leave
  them out; what the objects say about them is used then.

A service that no object describes is left out, and so is any other workload that the server does not send.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from l4.config.documents import Problem
from l4.config.resources import Resources
from l4.discovery.index import Update
from l4.discovery.labels import carried_labels
from l4.discovery.mesh import Mesh
from l4.discovery.objects import Gateway
from l4.discovery.pipeline import Discovered
from l4.discovery.registry import Moved, Registry
from l4.discovery.workload import NamedEndpoint, Service, ServiceEndpoint, Workload
from l4.xds.address_index import AddressIndex
from l4.xds.address_messages import key_of
from l4.xds.addresses import Known, KnownService, KnownWorkload
from l4.xds.discovered import Arrived

_Endpoint = ServiceEndpoint | NamedEndpoint


class JoinedMesh:
    """Call `arrive` and `take` one after the other, never at the same time."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._index = AddressIndex(mesh)
        self._sent: dict[str, Known] = {}
        self._news: set[str] = set()
        self._problems: tuple[Problem, ...] = ()
        self._own = _Own()
        self._waypoints: Mapping[str, tuple[str, str]] = {}
        self._is_joined = False

    def arrive(self, arrived: Arrived) -> None:
        """Note what the server has sent, for the next `take`."""
        for name in arrived.gone:
            self._sent.pop(name, None)
        self._sent.update(arrived.changed)
        self._news.update(arrived.changed, arrived.gone)
        self._problems = arrived.problems

    def take(self, known: Discovered) -> Discovered:
        """Return what objects and server describe together. After an exception, the next call joins everything anew."""
        is_joined, self._is_joined = self._is_joined, False
        update = known.update if is_joined else None
        names, self._news = self._news, set()
        if update is not None:
            names |= self._own.follow(known.registry, update)
        else:
            self._index, self._own = AddressIndex(self._mesh), _Own.of(known.registry)
            self._waypoints = _waypoints(known.taken.resources)
            names = self._own.names() | self._sent.keys()
        joined = {name: self._joined(name) for name in names}
        changed = {name: it for name, it in joined.items() if it is not None}
        indexed = self._index.take(changed, names - changed.keys())
        self._is_joined = True
        registry = replace(
            self._index.registry,
            problems=tuple(sorted({*known.registry.problems, *self._index.registry.problems, *self._problems})),
            aliases=known.registry.aliases,
        )
        if update is not None and indexed is not None:
            return replace(known, registry=registry, update=replace(indexed, registry=registry))
        return replace(known, registry=registry, update=None)

    def _joined(self, name: str) -> Known | None:
        sent, service = self._sent.get(name), self._own.services.get(name)
        if service is not None:
            new = KnownService(service, {it.port: 0 for it in service.ports})
            known = sent if isinstance(sent, KnownService) else new
            its = tuple(it for it in service.addresses if self._own.leads_to(it, service))
            bare = replace(service, addresses=its, endpoints=(), names=())
            return replace(known, service=bare, passes_through=service.followed is not None, unsupported=())
        own = self._own.workload(name)
        match sent:
            case KnownWorkload():
                return replace(sent, workload=self._completed(sent.workload, own), unsupported=())
            case None if own is not None and (own.hostname or own.is_nameless):
                return own
        return None

    def _completed(self, sent: Workload, own: KnownWorkload | None) -> Workload:
        """Return the workload with what only objects say about it."""
        named = sent.waypoint
        if named is not None and (found := self._waypoints.get(named.hostname or named.ip)) is not None:
            named = replace(named, namespace=found[0], gateway=found[1])
        if own is None:
            labels = carried_labels(sent.canonical_name, sent.canonical_revision)
            return replace(sent, waypoint=named, labels=labels, has_all_labels=False)
        its = own.workload
        return replace(
            sent,
            waypoint=named,
            labels=its.labels,
            ports=its.ports,
            is_leaving=its.is_leaving and not sent.is_healthy,
            tells_client=its.tells_client,
        )


@dataclass(slots=True)
class _Own:
    """What objects describe: services by the names of their resources, and their endpoints by uid and service."""

    registry: Registry = field(default_factory=Registry)
    services: dict[str, Service] = field(default_factory=dict)
    _endpoints: dict[str, dict[str, _Endpoint]] = field(default_factory=dict)

    @classmethod
    def of(cls, registry: Registry) -> "_Own":
        found = cls(registry)
        for service in registry.services.values():
            found._add(service)
        return found

    def names(self) -> set[str]:
        return {*self.services, *self._endpoints, *self.registry.workloads}

    def follow(self, registry: Registry, update: Update) -> set[str]:
        """Returns the names of all that may be different."""
        self.registry = registry
        names = {uid for moved in update.workloads for uid in _uids(moved)}
        for before in (it.before for it in update.services):
            if before is not None:
                names.update(self._remove(before))
        for after in (it.after for it in update.services):
            if after is not None:
                names.update(self._add(after))
        return names

    def leads_to(self, address: str, service: Service) -> bool:
        """Of two services with one address, it leads to one."""
        owner = self.registry.service_at(address)
        return owner is not None and owner.hostname == service.hostname

    def workload(self, uid: str) -> KnownWorkload | None:
        its = self._endpoints.get(uid, {})
        named = next((it for it in its.values() if isinstance(it, NamedEndpoint)), None)
        workload = next((it.workload for it in its.values()), None) or self.registry.workloads.get(uid)
        if workload is None:
            return None
        is_behind_its_service = any(
            not set(self.services[key].addresses).isdisjoint(workload.addresses) for key in its
        )  # a ServiceEntry with resolution NONE
        return KnownWorkload(
            workload,
            {key: it.ports for key, it in its.items()},
            named.name if named is not None else "",
            is_nameless=is_behind_its_service,
        )

    def _add(self, service: Service) -> list[str]:
        key = key_of(service)
        self.services[key] = service
        its = _endpoints(service)
        for it in its:
            self._endpoints.setdefault(it.workload.uid, {})[key] = it
        return [key, *(it.workload.uid for it in its)]

    def _remove(self, service: Service) -> list[str]:
        key = key_of(service)
        del self.services[key]
        its = _endpoints(service)
        for uid in {it.workload.uid for it in its}:
            del self._endpoints[uid][key]
            if not self._endpoints[uid]:
                del self._endpoints[uid]
        return [key, *(it.workload.uid for it in its)]


def _endpoints(service: Service) -> list[_Endpoint]:
    return [*service.endpoints, *service.names]


def _uids(moved: Moved[Workload]) -> Iterator[str]:
    return (it.uid for it in (moved.before, moved.after) if it is not None)


def _waypoints(resources: Resources) -> Mapping[str, tuple[str, str]]:
    """Return the Gateways by each of their addresses."""
    return {
        address.value: (it.key.namespace, it.key.name)
        for it in resources.of(Gateway)
        for address in it.value.status.addresses
    }
