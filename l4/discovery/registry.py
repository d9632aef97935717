"""Immutable index of services and workloads by name and address, built for each configuration."""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Generic, Self, TypeVar

from l4.config.documents import Problem
from l4.discovery.networks import Networks
from l4.discovery.workload import Service, ServiceEndpoint, Workload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moved(Generic[T]):
    """A change. `before` is None for a new object, `after` for a removed one."""

    before: T | None
    after: T | None


Membership = tuple[str, ServiceEndpoint]
"""A service's hostname, and what it says about one workload."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Services by hostname, and workloads by uid. Addresses are canonical.

    `aliases` are Services of type ExternalName, by namespace and name, with the name that each stands for.
    """

    services: Mapping[str, Service] = field(default_factory=dict)
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)
    _services_by_name: Mapping[tuple[str, str], Service] = field(default_factory=dict, repr=False)
    _services_by_ip: Mapping[str, Service] = field(default_factory=dict, repr=False)
    _workloads_by_ip: Mapping[str, Workload] = field(default_factory=dict, repr=False)
    _services_by_network: Networks[Service] = field(default_factory=Networks, repr=False, compare=False)
    _memberships: Mapping[str, tuple[Membership, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls,
        services: Iterable[Service],
        workloads: Iterable[Workload],
        nameless: Set[str] = frozenset(),
        problems: tuple[Problem, ...] = (),
        aliases: Mapping[tuple[str, str], str] | None = None,
    ) -> Self:
        """Build the index.

        `nameless` holds uids of workloads without an own address, such as pods on their node's network; they are not
        indexed by address. Of two workloads with one address, a pod comes first, then one with HBONE, then the first by
        uid: a WorkloadEntry cannot take over a pod's address.

        Of services with one hostname or address, a Service comes before a ServiceEntry, Services are ordered by
        hostname, and entries by their given order: a later object never takes anything away from an earlier one.
        """
        by_uid = {workload.uid: workload for workload in sorted(workloads, key=lambda it: it.uid)}
        at: dict[str, list[Workload]] = {}
        for workload in by_uid.values():
            for address in workload.addresses if workload.uid not in nameless else ():
                at.setdefault(address, []).append(workload)
        by_ip = {address: its[0] if len(its) == 1 else max(its, key=_rank) for address, its in at.items()}
        by_hostname: dict[str, Service] = {}
        services_by_name: dict[tuple[str, str], Service] = {}
        services_by_ip: dict[str, Service] = {}
        for service in sorted(services, key=_service_order):
            if by_hostname.setdefault(service.hostname, service) is not service:
                continue
            if not service.is_entry:
                services_by_name.setdefault((service.namespace, service.name), service)
            for address in service.addresses:
                services_by_ip.setdefault(address, service)
        by_network = _networks(by_hostname.values())
        members = _members({}, (), by_hostname)
        return cls(
            by_hostname, by_uid, problems, aliases or {}, services_by_name, services_by_ip, by_ip, by_network, members
        )

    def updated(
        self,
        workloads: Mapping[str, Workload | None],
        by_ip: Mapping[str, Workload | None],
        services: Iterable[Moved[Service]],
        problems: tuple[Problem, ...],
        aliases: Mapping[tuple[str, str], str],
    ) -> Self:
        """Return the registry with changed workloads, by uid and by address (None: removed), and changed services.

        Each changed service has the same names and addresses as the one it replaces.
        """
        by_uid = _with(self.workloads, workloads)
        if any(it is None or uid not in self.workloads for uid, it in workloads.items()):
            by_uid = dict(sorted(by_uid.items()))
        by_hostname, by_name = dict(self.services), dict(self._services_by_name)
        by_address = dict(self._services_by_ip)
        moved = tuple(services)
        for before, after in ((it.before, it.after) for it in moved):
            kept = after.addresses if after is not None else ()
            for address in before.addresses if before is not None else ():
                if by_address.get(address) is before and address not in kept:
                    del by_address[address]
        for before, after in ((it.before, it.after) for it in moved):
            if after is not None:
                by_hostname[after.hostname] = after
                for address in after.addresses:
                    owner = by_address.get(address)
                    if owner is None or owner is before:
                        by_address[address] = after
                if not after.is_entry:
                    by_name[after.namespace, after.name] = after
            elif before is not None:
                del by_hostname[before.hostname]
                if not before.is_entry:
                    del by_name[before.namespace, before.name]
        is_sorted = all(it.before is not None or it.after is None for it in moved)
        has_networks = any(it.after is not None and it.after.networks for it in moved)
        if not is_sorted:
            by_hostname = dict(sorted(by_hostname.items(), key=lambda it: _service_order(it[1])))
        return replace(
            self,
            services=by_hostname,
            workloads=by_uid,
            problems=problems,
            aliases=aliases,
            _services_by_name=by_name,
            _services_by_ip=by_address,
            _workloads_by_ip=_with(self._workloads_by_ip, by_ip),
            _services_by_network=_networks(by_hostname.values()) if has_networks else self._services_by_network,
            _memberships=_members(self._memberships, moved, by_hostname) if moved else self._memberships,
        )

    def services_of(self, uid: str) -> Iterator[tuple[Service, ServiceEndpoint]]:
        """Yield the services of which a workload is an endpoint, in their order, and what each says about it."""
        for hostname, endpoint in self._memberships.get(uid, ()):
            yield self.services[hostname], endpoint

    def service_at(self, ip: str) -> Service | None:
        """Return the service with this address, else the one with the smallest network that contains it."""
        return self._services_by_ip.get(ip) or self._services_by_network.find(ip)

    def service_with(self, host: str) -> Service | None:
        """Return the service with this host, else the one with the longest matching wildcard."""
        found, rest = self.services.get(host), host
        while found is None and "." in rest:
            rest = rest.partition(".")[2]
            found = self.services.get(f"*.{rest}")
        return found

    def workload_at(self, ip: str) -> Workload | None:
        return self._workloads_by_ip.get(ip)

    def service_named(self, namespace: str, name: str) -> Service | None:
        return self._services_by_name.get((namespace, name))

    def why_no_service(self, namespace: str, name: str) -> str:
        """Return a sentence that says why a Service name cannot be used."""
        external = self.aliases.get((namespace, name))
        if external is None:
            return f"there is no Service {namespace}/{name}"
        return (
            f"Service {namespace}/{name} is of type ExternalName, a DNS alias of {external or 'nothing'} without "
            "own endpoints; create a ServiceEntry for that host with resolution DNS, and refer to it here"
        )

    def visible(self, host: str, namespace: str) -> Service | None:
        """Return the service with this host, if the namespace can see it."""
        found = self.services.get(host)
        return found if found is not None and found.is_visible_in(namespace) else None

    def why_no_host(self, host: str) -> str:
        """Return a sentence that says why a host cannot be used."""
        hidden = self.services.get(host)
        if hidden is not None:
            seen_by = ", ".join(sorted(hidden.exported_to or ())) or "nobody"
            entry = f"ServiceEntry {hidden.namespace}/{hidden.name}"
            return f"{entry} exports the host {host} only to {seen_by}; see its exportTo"
        name, _, rest = host.partition(".")
        namespace, _, domain = rest.partition(".")
        if domain.startswith("svc") and (namespace, name) in self.aliases:
            return self.why_no_service(namespace, name)
        return f"no Service and no ServiceEntry has the host {host}"

    def workloads_on(self, node: str) -> tuple[Workload, ...]:
        return tuple(workload for workload in self.workloads.values() if workload.node == node)


def _service_order(service: Service) -> tuple[bool, str]:
    """Entries stay in the order in which they are given."""
    return service.is_entry, "" if service.is_entry else service.hostname


def _networks(services: Iterable[Service]) -> Networks[Service]:
    """Of two services with one network the first by hostname counts."""
    return Networks(
        (network, it) for it in sorted(services, key=lambda it: it.hostname) if it.networks for network in it.networks
    )


def _members(
    known: Mapping[str, tuple[Membership, ...]], moved: Iterable[Moved[Service]], services: Mapping[str, Service]
) -> dict[str, tuple[Membership, ...]]:
    """Return the memberships by uid; without known ones, those of all `services`."""
    gone: dict[str, set[str]] = {}
    new: dict[str, list[Membership]] = {}
    changed = [(it.before, it.after) for it in moved] if known else [(None, it) for it in services.values()]
    for before, after in changed:
        if before is not None:
            for it in before.endpoints:
                gone.setdefault(it.workload.uid, set()).add(before.hostname)
        if after is not None:
            for it in after.endpoints:
                new.setdefault(it.workload.uid, []).append((after.hostname, it))
    found = dict(known)
    for uid in gone.keys() | new.keys():
        its = [it for it in found.get(uid, ()) if it[0] not in gone.get(uid, ())]
        its += new.get(uid, ())
        if len(its) > 1:
            its.sort(key=lambda it: _service_order(services[it[0]]))
        if its:
            found[uid] = tuple(its)
        else:
            found.pop(uid, None)
    return found


def meant(workloads: Iterable[Workload]) -> Workload | None:
    """Return the workload that an address stands for. `workloads` are those with the address, sorted by uid."""
    return max(workloads, key=_rank, default=None)


def _with(known: Mapping[str, Workload], changes: Mapping[str, Workload | None]) -> dict[str, Workload]:
    found = dict(known)
    for name, workload in changes.items():
        if workload is None:
            found.pop(name, None)
        else:
            found[name] = workload
    return found


def _rank(workload: Workload) -> tuple[bool, bool]:
    return "//Pod/" in workload.uid, workload.tunnel_identity is not None
