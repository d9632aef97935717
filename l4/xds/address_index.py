"""Index of the addresses that a control plane has sent, which builds the registry and updates it.

A workload names its services, with its ports; it may come before them. An update costs in proportion to the workloads
that changed and to the endpoints of their services. If services share a host or an address, before or after a change,
everything is indexed anew.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from l4.config.codes import DocumentCode
from l4.config.documents import ObjectKey, ObjectOrigin, Problem
from l4.discovery.codes import DiscoveryCode
from l4.discovery.index import Update
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Moved, Registry, meant
from l4.discovery.workload import Health, NamedEndpoint, Service, ServiceEndpoint, Workload
from l4.xds.addresses import Known, KnownService, KnownWorkload

GROUP = "istio.workload"


_Change = tuple[str, Known | None, Known | None]
"""A name, and what was and is known by it."""


@dataclass(slots=True)
class _Touched:
    """What a set of changes affects: services by key, workloads by uid, and addresses of workloads."""

    services: set[str] = field(default_factory=set)
    workloads: dict[str, Moved[Workload]] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)


class AddressIndex:
    """All addresses, by the names of their resources. The result is `registry`."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._known: dict[str, Known] = {}
        self._is_indexed = False
        self.registry = Registry()
        self._clear()

    def _clear(self) -> None:
        self._services: dict[str, KnownService] = {}
        self._built: dict[str, Service] = {}
        self._members: dict[str, dict[str, KnownWorkload]] = {}
        self._claims: dict[str, set[str]] = {}
        self._at: dict[str, dict[str, Workload]] = {}
        self._problems: dict[str, tuple[Problem, ...]] = {}
        self._elsewhere: Counter[str] = Counter()

    def take(self, changed: Mapping[str, Known], gone: Collection[str]) -> Update | None:
        """Apply changes. Returns None if everything was indexed anew: at first, after an exception, and where services
        share something."""
        is_indexed, self._is_indexed = self._is_indexed, False
        changes: list[_Change] = []
        for name, now in changed.items():
            changes.append((name, self._known.get(name), _kept(self._known.get(name), now)))
        changes.extend((name, self._known[name], None) for name in gone if name in self._known)
        changes = [it for it in changes if it[1] != it[2]]
        for name, _, after in changes:
            if after is None:
                del self._known[name]
            else:
                self._known[name] = after
        update = self._follow(changes) if is_indexed else None
        if update is None:
            self._index()
        self._is_indexed = True
        return update

    # -- everything ----------------------------------------------------------------------------------------------------

    def _index(self) -> None:
        self._clear()
        touched = _Touched()
        for name, it in self._known.items():
            self._add(name, it, touched)
        ordered = sorted(self._services, key=lambda key: (not self._services[key].is_canonical, key))
        self._built = {key: self._build(key) for key in ordered}
        workloads = [it for it in self._known.values() if isinstance(it, KnownWorkload)]
        self.registry = Registry.build(
            self._built.values(),
            (it.workload for it in workloads),
            {it.workload.uid for it in workloads if it.is_nameless},
            self._all_problems(),
        )

    # -- changes -------------------------------------------------------------------------------------------------------

    def _follow(self, changes: Iterable[_Change]) -> Update | None:
        """Returns None if the effect is not clear; everything must then be indexed anew."""
        services = [it for change in changes for it in change[1:] if isinstance(it, KnownService)]
        claims = {claim for it in services for claim in _claims(it)}
        if self._is_shared(claims) or any(it.service.networks for it in services):
            return None
        touched, said_before = _Touched(), (dict(self._problems), set(self._elsewhere))
        for name, before, after in changes:
            if before is not None:
                self._remove(name, before, touched)
            if after is not None:
                self._add(name, after, touched)
        affected = (self._services[key] for key in touched.services if key in self._services)
        if self._is_shared(claims.union(*map(_claims, affected))):
            return None
        moved_services = list(self._moved(touched.services))
        if any(map(_has_another_name, moved_services)):
            return None
        moved = [it for it in touched.workloads.values() if it.before != it.after]
        problems = self.registry.problems
        if said_before != (self._problems, set(self._elsewhere)):
            problems = self._all_problems()
        if moved or moved_services or touched.addresses or problems is not self.registry.problems:
            self.registry = self.registry.updated(
                {uid: it.after for uid, it in touched.workloads.items() if it.before != it.after},
                {address: self._meant_by(address) for address in touched.addresses},
                moved_services,
                problems,
                {},
            )
        return Update(self.registry, tuple(moved), tuple(moved_services), frozenset(touched.addresses))

    def _is_shared(self, claims: Iterable[str]) -> bool:
        return any(len(self._claims.get(it, ())) > 1 for it in claims)

    def _moved(self, keys: Iterable[str]) -> Iterator[Moved[Service]]:
        for key in sorted(keys):
            before, after = self._built.pop(key, None), self._build(key) if key in self._services else None
            if after is not None:
                self._built[key] = before if before == after and before is not None else after
            if before != after:
                yield Moved(before, after)

    def _meant_by(self, address: str) -> Workload | None:
        its = self._at.get(address, {})
        return meant(its[uid] for uid in sorted(its))

    # -- one resource --------------------------------------------------------------------------------------------------

    def _add(self, name: str, it: Known, touched: _Touched) -> None:
        for claim in _claims(it):
            self._claims.setdefault(claim, set()).add(name)
        if it.unsupported:
            self._problems[name] = tuple(_unsupported(name, it))
        if isinstance(it, KnownService):
            self._services[_key(it)] = it
            touched.services.add(_key(it))
            return
        uid, workload = it.workload.uid, it.workload
        before = touched.workloads.get(uid)
        touched.workloads[uid] = Moved(before.before if before is not None else None, workload)
        touched.services.update(it.services)
        for key in it.services:
            self._members.setdefault(key, {})[uid] = it
        if workload.network != self._mesh.network:
            self._elsewhere[workload.network] += 1
        for address in workload.addresses if not it.is_nameless else ():
            self._at.setdefault(address, {})[uid] = workload
            touched.addresses.add(address)

    def _remove(self, name: str, it: Known, touched: _Touched) -> None:
        for claim in _claims(it):
            self._claims[claim].discard(name)
            if not self._claims[claim]:
                del self._claims[claim]
        self._problems.pop(name, None)
        if isinstance(it, KnownService):
            del self._services[_key(it)]
            touched.services.add(_key(it))
            return
        uid, workload = it.workload.uid, it.workload
        touched.workloads[uid] = Moved(workload, None)
        touched.services.update(it.services)
        for key in it.services:
            its = self._members[key]
            del its[uid]
            if not its:
                del self._members[key]
        if workload.network != self._mesh.network:
            self._elsewhere -= Counter([workload.network])
        for address in workload.addresses if not it.is_nameless else ():
            its_at = self._at[address]
            del its_at[uid]
            if not its_at:
                del self._at[address]
            touched.addresses.add(address)

    # -- services ------------------------------------------------------------------------------------------------------

    def _build(self, key: str) -> Service:
        """Return the service with its endpoints: those on other networks cannot be reached, and get nothing."""
        known = self._services[key]
        if known.passes_through:
            return known.service
        members = self._members.get(key, {})
        its = [members[uid] for uid in sorted(members) if members[uid].workload.network == self._mesh.network]
        endpoints = tuple(
            ServiceEndpoint(it.workload, _ports(known, key, it), Health.READY if known.takes_unhealthy else None)
            for it in its
            if _has_address(it.workload, known.ip_version)
        )
        names = tuple(
            NamedEndpoint(it.hostname, _ports(known, key, it), it.workload.capacity, it.workload)
            for it in its
            if it.hostname and not it.workload.addresses
        )
        return replace(known.service, endpoints=endpoints, names=names)

    # -- problems ------------------------------------------------------------------------------------------------------

    def _all_problems(self) -> tuple[Problem, ...]:
        own = (problem for its in self._problems.values() for problem in its)
        return tuple(sorted({*own, *map(self._unreachable, self._elsewhere), *self._taken()}))

    def _unreachable(self, network: str) -> Problem:
        key = ObjectKey(GROUP, "Network", "", network or "(default)")
        sentence = (
            f"nothing is sent to workloads on other networks than {self._mesh.network!r}, the one of this process"
        )
        return Problem(ObjectOrigin(key, "any"), str(key), "", sentence, DocumentCode.NOT_CARRIED_OUT)

    def _taken(self) -> Iterator[Problem]:
        """Yield a problem for each service whose host or address another one has."""
        shared = (its for its in self._claims.values() if len(its) > 1)
        for name in sorted({name for its in shared for name in its}):
            it = self._known[name]
            assert isinstance(it, KnownService)
            key, owners = _object(name, it), set[str]()
            first = self._first(it.service.hostname)
            if first != name:
                owners.add(first)
            owners |= {owner for address in it.service.addresses if (owner := self._first(address)) != name}
            if owners:
                sentence = f"{', '.join(sorted(owners))} comes first with the same host or address, which lead there"
                yield Problem(ObjectOrigin(key, "any"), str(key), "", sentence, DiscoveryCode.HOST_TAKEN)

    def _first(self, claim: str) -> str:
        def order(name: str) -> tuple[bool, bool, str]:
            it = self._known[name]
            assert isinstance(it, KnownService)
            return it.service.is_entry, not it.is_canonical, name

        return min(self._claims[claim], key=order)


def _kept(before: Known | None, after: Known) -> Known:
    """Return `after` with the workload object of `before` if it is equal, because others remember it by identity."""
    if isinstance(before, KnownWorkload) and isinstance(after, KnownWorkload) and before.workload == after.workload:
        return replace(after, workload=before.workload)
    return after


def _has_another_name(moved: Moved[Service]) -> bool:
    """Whether the service has taken the host of one with another object."""
    before, after = moved.before, moved.after
    return before is not None and after is not None and _object_of(before) != _object_of(after)


def _object_of(service: Service) -> tuple[bool, str]:
    return service.is_entry, service.name


def _key(it: KnownService) -> str:
    return f"{it.service.namespace}/{it.service.hostname}"


def _claims(it: Known | None) -> tuple[str, ...]:
    """Return the host and the addresses of a service, which no other one may have."""
    return (it.service.hostname, *it.service.addresses) if isinstance(it, KnownService) else ()


def _ports(known: KnownService, key: str, it: KnownWorkload) -> dict[int, int]:
    """Return the endpoint's port for each service port: its own, else the service's, else the same one."""
    own, tunnel = it.services[key], it.workload.application_tunnel
    takes_any = tunnel is not None and tunnel.port > 0
    found = {port: own.get(port) or target or (port if takes_any else 0) for port, target in known.ports.items()}
    return {port: target for port, target in found.items() if target}


def _has_address(workload: Workload, version: int | None) -> bool:
    return any(version is None or (":" in address) == (version == 6) for address in workload.addresses)


def _object(name: str, it: Known) -> ObjectKey:
    if isinstance(it, KnownWorkload):
        return ObjectKey(GROUP, "Workload", "", it.workload.uid)
    return ObjectKey(GROUP, "Service", it.service.namespace, it.service.hostname)


def _unsupported(name: str, it: Known) -> Iterator[Problem]:
    key = _object(name, it)
    for place, sentence in it.unsupported:
        yield Problem(ObjectOrigin(key, "any"), str(key), place, sentence, DocumentCode.NOT_CARRIED_OUT)
