"""The mesh as a discovery server describes it: a registry and its policies as resources.

A change costs in proportion to the workloads that changed, to the endpoints of the services that changed, and, if
policies changed, to all of them.

A client knows of an endpoint's health only what its workload says. A service of which other endpoints are in use, such
as one that publishes those that are not ready, takes all workloads that name it, and only its endpoints in use do.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from l4._proto.workload_pb2 import Address
from l4.discovery.index import Update
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Moved, Registry
from l4.discovery.workload import Service, Workload, usable
from l4.discovery.workload_policies import WorkloadPolicies
from l4.xds import addresses, authorizations
from l4.xds.address_messages import About, key_of, service_message, workload_message
from l4.xds.applying_policies import ApplyingPolicies
from l4.xds.authorization_messages import authorization_message
from l4.xds.offer import Described, Offered

T = TypeVar("T")

_SERVICE, _WORKLOAD = 0, 1
"""Services come first: a client decides by its service whether a workload that is not healthy is an endpoint."""


@dataclass(frozen=True, slots=True)
class Description:
    """Both have to be offered, `policies` first: a workload may refer to a new one. None: they have not changed."""

    addresses: Described
    policies: Described | None


@dataclass(slots=True)
class _Endpoints:
    """Of one service: ports by the uid of a workload, and workloads with a name in place of an address."""

    ports: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    named: Mapping[str, tuple[str, Workload]] = field(default_factory=dict)

    def differing(self, other: "_Endpoints") -> set[str]:
        """Return the workloads that are not endpoints in the same way."""
        ports, theirs = self.ports, other.ports
        found = {uid for uid in ports.keys() | theirs.keys() if ports.get(uid) != theirs.get(uid)}
        named, their_named = self.named, other.named
        found.update(uid for uid in named.keys() | their_named.keys() if named.get(uid) != their_named.get(uid))
        return found


_NONE = _Endpoints()


class Describing:
    """Describes one registry after the other."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._is_described = False
        self._clear()

    def _clear(self) -> None:
        self._policies = ApplyingPolicies()
        self._endpoints: dict[str, _Endpoints] = {}
        self._ports: dict[str, dict[str, Mapping[int, int]]] = {}
        self._named: dict[str, dict[str, tuple[str, Workload]]] = {}
        """Both as in `_Endpoints`, by uid and by service."""
        self._at: dict[str, set[str]] = {}

    def take(self, registry: Registry, update: Update | None, policies: WorkloadPolicies) -> Description:
        """`update` is the difference to the registry before, None if everything may differ. After an exception, the
        next call describes everything."""
        is_described, self._is_described = self._is_described, False
        if update is None or not is_described:
            found = self._take_all(registry, policies)
        else:
            found = self._follow(registry, update, policies)
        self._is_described = True
        return found

    def _take_all(self, registry: Registry, policies: WorkloadPolicies) -> Description:
        self._clear()
        for workload in registry.workloads.values():
            self._place(Moved(None, workload))
        self._policies.take(policies, registry, registry.workloads)
        for service in registry.services.values():
            self._replace(key_of(service), service)
        found = {key_of(it): self._service(registry, it) for it in registry.services.values() if _is_seen(it)}
        for uid in registry.workloads.keys() | self._named.keys():
            if (offered := self._workload(registry, uid)) is not None:
                found[uid] = offered
        return Description(Described(found, is_whole=True), self._all_policies())

    def _follow(self, registry: Registry, update: Update, policies: WorkloadPolicies) -> Description:
        moved = {self._place(it) for it in update.workloads}
        touched, are_different = self._policies.take(policies, registry, moved)
        touched = moved.union(touched, *(self._at.get(address, ()) for address in update.addresses))
        changed: dict[str, Offered] = {}
        gone: set[str] = set()
        for key, service in _by_key(update.services).items():
            touched |= self._replace(key, service)
            if service is not None and _is_seen(service):
                changed[key] = self._service(registry, service)
            else:
                gone.add(key)
        for uid in touched:
            if (offered := self._workload(registry, uid)) is not None:
                changed[uid] = offered
            else:
                gone.add(uid)
        return Description(Described(changed, gone), self._all_policies() if are_different else None)

    # -- what belongs to a workload ------------------------------------------------------------------------------------

    def _place(self, moved: Moved[Workload]) -> str:
        """Note the addresses of a workload. Returns its uid."""
        uid = ""
        for it in filter(None, (moved.before, moved.after)):
            uid = it.uid
            for address in it.addresses:
                its = self._at.setdefault(address, set())
                its.add(uid) if it is moved.after else its.discard(uid)
                if not its:
                    del self._at[address]
        return uid

    def _replace(self, key: str, service: Service | None) -> set[str]:
        """Note the endpoints of a service. Returns the workloads for which that makes a difference."""
        before = self._endpoints.pop(key, _NONE)
        after = _endpoints(service) if service is not None and _is_seen(service) else _NONE
        different = before.differing(after)
        for uid in different:
            _set(self._ports, uid, key, after.ports.get(uid))
            _set(self._named, uid, key, after.named.get(uid))
        if after is not _NONE:
            self._endpoints[key] = after
        return different

    # -- resources -----------------------------------------------------------------------------------------------------

    def _workload(self, registry: Registry, uid: str) -> Offered | None:
        """Return None for a workload that is gone."""
        named = self._named.get(uid, {})
        hostname, workload = next(iter(named.values())) if named else ("", registry.workloads.get(uid))
        if workload is None:
            return None
        its = self._ports.get(uid, {})
        leading = (registry.workload_at(it) for it in workload.addresses)
        is_nameless = bool(workload.addresses) and not any(it is not None and it.uid == uid for it in leading)
        about = About(dict(sorted(its.items())), hostname, self._policies.of(uid), is_nameless)
        content = Address(workload=workload_message(workload, about, self._mesh.network))
        aliases = () if is_nameless else tuple(f"{workload.network}/{it}" for it in workload.addresses)
        keys = (*its, on_node(workload.node)) if workload.node else tuple(its)
        return Offered.of(addresses.TYPE, uid, content, aliases=aliases, keys=keys, rank=_WORKLOAD)

    def _service(self, registry: Registry, service: Service) -> Offered:
        """Of two services with one address, it leads to one."""
        owners = ((it, registry.service_at(it)) for it in service.addresses)
        own = tuple(it for it, owner in owners if owner is not None and owner.hostname == service.hostname)
        network, takes_unhealthy = self._mesh.network, _takes_unhealthy(service)
        content = Address(service=service_message(service, own, network, takes_unhealthy=takes_unhealthy))
        aliases = tuple(f"{network}/{it}" for it in own)
        return Offered.of(addresses.TYPE, key_of(service), content, aliases=aliases, rank=_SERVICE)

    def _all_policies(self) -> Described:
        found = {str(it.policy): authorization_message(it.policy, it.scope) for it in self._policies.all()}
        offered = {name: Offered.of(authorizations.TYPE, name, content) for name, content in found.items()}
        return Described(offered, is_whole=True)


def on_node(name: str) -> str:
    """Return the key of all workloads of a node."""
    return f"node:{name}"


def _set(index: dict[str, dict[str, T]], uid: str, key: str, value: T | None) -> None:
    its = index.setdefault(uid, {})
    its.pop(key, None)
    if value is not None:
        its[key] = value
    if not its:
        del index[uid]


def _is_seen(service: Service) -> bool:
    return service.exported_to is None or bool(service.exported_to)


def _by_key(moved: Collection[Moved[Service]]) -> dict[str, Service | None]:
    """Return what there is now by the name of each service that changed."""
    found: dict[str, Service | None] = {key_of(it.before): None for it in moved if it.before is not None}
    found.update((key_of(it.after), it.after) for it in moved if it.after is not None)
    return found


def _takes_unhealthy(service: Service) -> bool:
    return not all(it.workload.is_healthy for it in usable(service.endpoints))


def _endpoints(service: Service) -> _Endpoints:
    if service.followed is not None:
        return _NONE
    in_use, takes_unhealthy = {it.workload.uid for it in usable(service.endpoints)}, _takes_unhealthy(service)
    ports = {
        it.workload.uid: it.ports
        for it in service.endpoints
        if it.workload.uid in in_use or not (takes_unhealthy or it.workload.is_healthy)
    }
    named = {it.workload.uid: (it.name, it.workload) for it in service.names}
    return _Endpoints(ports | {it.workload.uid: it.ports for it in service.names}, named)
