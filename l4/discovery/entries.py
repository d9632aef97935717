"""Convert ServiceEntries to services, for hosts outside the cluster or without a Service.

With resolution DNS, endpoints are names (`Service.names`), resolved by the connecting proxy. With resolution NONE, a
connection continues to the address that was called; with DYNAMIC_DNS, to the host in the request. Such services have no
endpoints (`Service.followed`), except that NONE with a single address has that address as its endpoint.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from l4.config.codes import Code, DocumentCode
from l4.config.documents import ObjectKey, Problem
from l4.config.resources import Resource, Resources
from l4.discovery.codes import DiscoveryCode
from l4.discovery.labels import canonical_name, canonical_revision, tunnel_protocol
from l4.discovery.members import Member, Members
from l4.discovery.mesh import Mesh
from l4.discovery.networks import Networks
from l4.discovery.objects import ServicePortSpec, canonical_ip, is_ip
from l4.discovery.ports import app_protocol
from l4.discovery.service_entry import EntryEndpoint, EntryPort, ServiceEntry
from l4.discovery.waypoints import Bindings
from l4.discovery.workload import (
    AppProtocol,
    Followed,
    Follows,
    NamedEndpoint,
    Service,
    ServiceEndpoint,
    ServicePort,
    Workload,
)
from policies.attributes import Identity


class Entries:
    def __init__(self, resources: Resources, members: Members, mesh: Mesh, bindings: Bindings) -> None:
        self.problems: list[Problem] = []
        self._entries = sorted(
            resources.of(ServiceEntry), key=lambda it: (it.value.metadata.creation_timestamp, it.key)
        )
        self._members = members
        self._mesh = mesh
        self._bindings = bindings

        self._selecting = [it for it in self._entries if it.value.spec.workload_selector is not None]
        self._hosts = frozenset(_host(host) for it in self._entries for host in it.value.spec.hosts)
        self._addresses = frozenset(
            canonical_ip(text)
            for it in self._entries
            for text in (
                *it.value.spec.addresses,
                *(assigned.value for assigned in it.value.status.addresses),
                *(endpoint.address for endpoint in it.value.spec.endpoints),
                *it.value.spec.hosts,
            )
            if is_ip(text)
        )

    def mean(self, addresses: Iterable[str], hostname: str = "") -> bool:
        """Whether an entry selects a workload with these labels, or contains one of the addresses."""
        return hostname in self._hosts or not self._addresses.isdisjoint(addresses)

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Iterator[Resource[ServiceEntry]]:
        """The entries that select a workload."""
        for it in self._selecting:
            selector = it.value.spec.workload_selector
            assert selector is not None
            if it.key.namespace == namespace and selector.labels.items() <= labels.items():
                yield it

    def again(
        self, resource: Resource[ServiceEntry], known: Mapping[str, Service]
    ) -> Iterator[tuple[Service, Service]]:
        """Yield an entry's services, each as before and with the members that are selected now."""
        for host in resource.value.spec.hosts:
            before = known.get(_host(host))
            if before is None or not before.is_entry or _named(before) != str(resource.key):
                continue
            addresses = tuple(dict.fromkeys(map(canonical_ip, resource.value.addresses_of(before.hostname))))
            is_single = len(addresses) == 1 and not before.networks
            endpoints = tuple(self._endpoints(resource, addresses if is_single else ()))
            yield before, replace(before, endpoints=endpoints, names=tuple(self._names(resource, before.hostname)))

    def services(self, known: Iterable[Service]) -> Iterator[Service]:
        """Yield services for hosts and addresses that no known service and no older entry has."""
        hosts = {service.hostname: _named(service) for service in known}
        addresses = {address: _named(service) for service in known for address in service.addresses}
        networks: Networks[ObjectKey] = Networks()
        for resource in self._entries:
            self._tell_of_ports(resource)
            own = tuple(it for it in resource.value.networks if not self._is_taken(resource, it, networks))
            for index, host in enumerate(resource.value.spec.hosts):
                service = self._service(resource, _host(host), own)
                owner = hosts.setdefault(service.hostname, str(resource.key))
                if owner != str(resource.key):
                    sentence = f"{service.hostname} already is the host of {owner}; this object has no effect for it"
                    self._tell(resource, f"spec.hosts[{index}]", sentence, DiscoveryCode.HOST_TAKEN)
                    continue
                free = [it for it in service.addresses if not self._is_taken(resource, it, networks)]
                for address in free:
                    owner = addresses.setdefault(address, str(resource.key))
                    if owner != str(resource.key):
                        sentence = f"{address} already is an address of {owner} and stays with it"
                        self._tell(resource, "spec.addresses", sentence, DiscoveryCode.HOST_TAKEN)
                yield replace(service, addresses=tuple(free))
            for network in own:
                networks.add(network, resource.key)

    def _is_taken(self, resource: Resource[ServiceEntry], text: str, networks: Networks[ObjectKey]) -> bool:
        """Whether an older entry of another namespace has a network that contains this address or network.

        That entry keeps it: nobody can take a part of another namespace's network.
        """
        owner = networks.around(text)
        if owner is None or owner.namespace == resource.key.namespace:
            return False
        sentence = f"{text} is already part of a network of {owner} and stays with it"
        self._tell(resource, "spec.addresses", sentence, DiscoveryCode.HOST_TAKEN)
        return True

    def _service(self, resource: Resource[ServiceEntry], host: str, networks: tuple[str, ...]) -> Service:
        entry, key = resource.value, resource.key
        addresses = tuple(dict.fromkeys(map(canonical_ip, entry.addresses_of(host))))
        bound = self._bindings.of_service(resource)
        is_single = len(addresses) == 1 and not networks
        if not addresses and not networks and bound.waypoint is not None:
            sentence = f"{host} has no address, so only tunnels can reach it by name; add one to spec.addresses"
            self._tell(resource, "spec.addresses", sentence, DiscoveryCode.SERVICE_NOT_REACHABLE)
        return Service(
            name=key.name,
            namespace=key.namespace,
            hostname=host,
            addresses=addresses,
            ports=tuple(_port(port) for port in entry.spec.ports),
            endpoints=tuple(self._endpoints(resource, addresses if is_single else ())),
            waypoint=bound.waypoint,
            shares=bound.shares,
            is_entry=True,
            subject_alt_names=entry.spec.subject_alt_names,
            names=tuple(self._names(resource, host)),
            networks=networks,
            followed=self._followed(resource, host, (*addresses, *networks), is_single=is_single),
            exported_to=entry.exported_to,
        )

    def _followed(
        self, resource: Resource[ServiceEntry], host: str, networks: tuple[str, ...], *, is_single: bool
    ) -> Followed | None:
        spec = resource.value.spec
        workload = self._workload(resource, EntryEndpoint(host))
        match spec.resolution:
            case "NONE" if not is_single:
                ports = {port.number: port.number for port in spec.ports}
                return Followed(Follows.ADDRESS, host, networks, ports, workload)
            case "DYNAMIC_DNS" if spec.location == "MESH_EXTERNAL":
                return Followed(Follows.HOST, host, networks, _targets(spec.ports, {}), workload)
        return None

    def _tell_of_ports(self, resource: Resource[ServiceEntry]) -> None:
        spec = resource.value.spec
        if spec.resolution != "DYNAMIC_DNS":
            return
        if spec.location != "MESH_EXTERNAL":
            sentence = "DYNAMIC_DNS requires location MESH_EXTERNAL; until then, the entry has no endpoints"
            self._tell(resource, "spec.location", sentence)
        for index, port in enumerate(spec.ports):
            if _port(port).app_protocol is AppProtocol.TCP:
                sentence = f"{port.protocol} does not name a host to resolve; DYNAMIC_DNS supports HTTP and TLS only"
                self._tell(resource, f"spec.ports[{index}].protocol", sentence)

    def _endpoints(self, resource: Resource[ServiceEntry], addresses: tuple[str, ...]) -> Iterator[ServiceEndpoint]:
        """`addresses` holds the entry's single address, which is its own endpoint."""
        spec = resource.value.spec
        match spec.resolution:
            case "NONE" if addresses:
                itself = {port.number: port.number for port in spec.ports}
                yield ServiceEndpoint(self._workload(resource, EntryEndpoint(addresses[0])), itself)
            case "NONE" | "DYNAMIC_DNS":
                return
            case _:
                for endpoint in spec.endpoints:
                    if is_ip(endpoint.address):
                        ports = _targets(spec.ports, endpoint.ports)
                        yield ServiceEndpoint(self._workload(resource, endpoint), ports)
                for member in self._selected(resource):
                    if not member.name:
                        yield ServiceEndpoint(member.workload, _targets(spec.ports, member.port_names))

    def _selected(self, resource: Resource[ServiceEntry]) -> Iterator[Member]:
        selector = resource.value.spec.workload_selector
        return self._members.selected(resource.key.namespace, selector.labels if selector is not None else {})

    def _names(self, resource: Resource[ServiceEntry], host: str) -> Iterator[NamedEndpoint]:
        """Yield DNS endpoints. Without endpoints and selector, the host itself is resolved."""
        spec = resource.value.spec
        if not spec.resolution.startswith("DNS"):
            return
        is_bare = not spec.endpoints and spec.workload_selector is None
        for endpoint in (EntryEndpoint(host),) if is_bare else spec.endpoints:
            if not is_ip(endpoint.address):
                workload, ports = self._workload(resource, endpoint), _targets(spec.ports, endpoint.ports)
                yield NamedEndpoint(endpoint.address.lower(), ports, workload.capacity, workload)
        for member in self._selected(resource):
            if member.name:
                ports = _targets(spec.ports, member.port_names)
                yield NamedEndpoint(member.name, ports, member.workload.capacity, member.workload)

    def _workload(self, resource: Resource[ServiceEntry], endpoint: EntryEndpoint) -> Workload:
        """Return the workload of an endpoint in the entry. If a workload is known at the address, use it."""
        key, meta = resource.key, resource.value.metadata
        labels = {**meta.labels, **endpoint.labels}
        protocol = tunnel_protocol(labels, meta.annotations)
        address = (canonical_ip(endpoint.address),) if is_ip(endpoint.address) else ()
        known = self._members.standing_for(address, protocol)
        if known is not None:
            return known.workload
        uid = f"{self._mesh.cluster_id}/networking.istio.io/ServiceEntry/{key.namespace}/{key.name}/{endpoint.address}"
        return Workload(
            uid=uid,
            name=key.name,
            namespace=key.namespace,
            addresses=address,
            identity=Identity(self._mesh.trust_domain, key.namespace, endpoint.service_account),
            tunnel_protocol=protocol,
            node="",
            is_healthy=True,
            workload_name=key.name,
            workload_type="pod",
            canonical_name=canonical_name(labels, key.name),
            canonical_revision=canonical_revision(labels),
            cluster_id=self._mesh.cluster_id,
            network=endpoint.network or self._mesh.network,
            labels=labels,
            locality=endpoint.locality,
            capacity=max(endpoint.weight, 1),
        )

    def _tell(
        self, resource: Resource[ServiceEntry], field: str, sentence: str, code: Code = DocumentCode.NOT_CARRIED_OUT
    ) -> None:
        self.problems.append(Problem(resource.origin, str(resource.key), field, sentence, code))


def _host(text: str) -> str:
    return text.rstrip(".").lower()


def _named(service: Service) -> str:
    return f"{'ServiceEntry' if service.is_entry else 'Service'} {service.namespace}/{service.name}"


def _port(port: EntryPort) -> ServicePort:
    spec = ServicePortSpec(port.number, port.name, app_protocol=port.protocol or None)
    return ServicePort(port.number, port.name, app_protocol(spec))


def _targets(ports: Iterable[EntryPort], names: Mapping[str, int]) -> dict[int, int]:
    """Return the endpoint's port for each service port: by name, else the target port, else the same number."""
    return {port.number: names.get(port.name) or port.target_port or port.number for port in ports}
