"""Endpoints of a Service: from its EndpointSlices, or, without any, from its Endpoints or its selector.

WorkloadEntries that the selector matches are always included, because slices do not contain them.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import replace

from l4.config.documents import ObjectKey
from l4.config.resources import Resource, Resources
from l4.discovery.members import Member, Members
from l4.discovery.mesh import Mesh
from l4.discovery.objects import (
    EndpointConditions,
    Endpoints,
    EndpointSlice,
    Metadata,
    ServiceObject,
    ServicePortSpec,
    SliceEndpoint,
    canonical_ip,
)
from l4.discovery.workload import Health, NamedEndpoint, ServiceEndpoint, TunnelProtocol, Workload
from policies.attributes import Identity

_SERVICE_NAME = "kubernetes.io/service-name"

_BARE = "/discovery.k8s.io/EndpointSlice/"

ServiceName = tuple[str, str]
"""Namespace and name."""


class ServiceEndpoints:
    """Endpoints of all services. EndpointSlices can be added and removed without reading the others again."""

    def __init__(self, resources: Resources, members: Members, mesh: Mesh) -> None:
        self._members = members
        self._mesh = mesh
        self._slices: dict[ServiceName, list[Resource[EndpointSlice]]] = {}
        self._named_by: dict[tuple[str, ...], set[tuple[ServiceName, ObjectKey]]] = {}
        self._endpoints: dict[ServiceName, Endpoints] = {}
        for endpoints in resources.of(Endpoints):
            self.add_endpoints(endpoints)
        for resource in resources.of(EndpointSlice):
            self.add(resource)

    def add(self, resource: Resource[EndpointSlice]) -> ServiceName:
        """Add a new slice. Returns its service."""
        service = _service_of(resource)
        insort(self._slices.setdefault(service, []), resource, key=_key)
        self._note(service, resource.key, resource.value)
        return service

    def remove(self, resource: Resource[EndpointSlice]) -> ServiceName:
        """Remove a slice, given as it was added. Returns its service."""
        service = _service_of(resource)
        its = self._slices[service]
        del its[bisect_left(its, resource.key, key=_key)]
        if not its:
            del self._slices[service]
        self._forget(service, resource.key, resource.value)
        return service

    def add_endpoints(self, resource: Resource[Endpoints]) -> ServiceName:
        """The same for Endpoints."""
        service = resource.key.namespace, resource.key.name
        self._endpoints[service] = resource.value
        for piece in _mirrored(resource.value):
            self._note(service, resource.key, piece)
        return service

    def remove_endpoints(self, resource: Resource[Endpoints]) -> ServiceName:
        service = resource.key.namespace, resource.key.name
        for piece in _mirrored(self._endpoints.pop(service)):
            self._forget(service, resource.key, piece)
        return service

    def _note(self, service: ServiceName, key: ObjectKey, piece: EndpointSlice) -> None:
        for name in _names(piece):
            self._named_by.setdefault(name, set()).add((service, key))

    def _forget(self, service: ServiceName, key: ObjectKey, piece: EndpointSlice) -> None:
        for name in _names(piece):
            users = self._named_by.get(name)
            if users is not None:
                users.discard((service, key))
                if not users:
                    del self._named_by[name]

    def on_node(self, node: str) -> set[ServiceName]:
        """The services with an endpoint of which only the node is known."""
        found = {
            service
            for service, slices in self._slices.items()
            if any(it.node_name == node for piece in slices for it in piece.value.endpoints)
        }
        for service, endpoints in self._endpoints.items():
            if any(it.node_name == node for piece in _mirrored(endpoints) for it in piece.endpoints):
                found.add(service)
        return found

    def naming(self, pod: ServiceName, addresses: Iterable[str]) -> set[ServiceName]:
        """Return the services with a slice that names the pod or one of its addresses."""
        names: list[tuple[str, ...]] = [pod, *((it,) for it in addresses)]
        return {service for name in names for service, _ in self._named_by.get(name, ())}

    def of(self, service: ServiceObject) -> tuple[ServiceEndpoint, ...]:
        """Return the service's endpoints."""
        found = self._found(service)
        if service.spec.publish_not_ready_addresses:
            found = (replace(it, stated=Health.READY) for it in found)
        return tuple({it.workload.uid: it for it in found}.values())  # a dual-stack pod has a slice per family

    def names(self, service: ServiceObject) -> tuple[NamedEndpoint, ...]:
        """Return the selected WorkloadEntries that have a DNS name instead of an address."""
        named = (it for it in self._selected(service) if it.name)
        return tuple(NamedEndpoint(it.name, _targets(service, it), it.workload.capacity, it.workload) for it in named)

    def _found(self, service: ServiceObject) -> Iterator[ServiceEndpoint]:
        key = service.metadata.namespace, service.metadata.name
        slices = self._slices.get(key)
        pieces = [it.value for it in slices] if slices is not None else None
        if pieces is None and not service.spec.selector and key in self._endpoints:
            pieces = list(_mirrored(self._endpoints[key]))
        if pieces is not None:
            yield from self._from_slices(service, pieces)
        for member in self._selected(service):
            if (member.is_entry or pieces is None) and not member.name:
                yield ServiceEndpoint(member.workload, _targets(service, member))

    def _selected(self, service: ServiceObject) -> Iterator[Member]:
        return self._members.selected(service.metadata.namespace, service.spec.selector)

    def _from_slices(self, service: ServiceObject, slices: Iterable[EndpointSlice]) -> Iterator[ServiceEndpoint]:
        is_published = service.spec.publish_not_ready_addresses
        for piece in slices:
            targets = {port.name: port.port for port in piece.ports if port.port is not None and port.protocol == "TCP"}
            ports = {port.port: targets[port.name] for port in tcp(service.spec.ports) if port.name in targets}
            for endpoint in piece.endpoints:
                health = _health(endpoint.conditions)
                for address in map(canonical_ip, endpoint.addresses if health or is_published else ()):
                    member = self._behind(piece.metadata.namespace, endpoint, address)
                    if member is not None:
                        yield ServiceEndpoint(member.workload, ports, min(health, member.workload.health))
                    else:
                        yield ServiceEndpoint(self._bare(piece.metadata, address, endpoint, health), ports)

    def _behind(self, namespace: str, endpoint: SliceEndpoint, address: str) -> Member | None:
        reference = endpoint.target_ref
        if reference is not None and reference.kind == "Pod":
            return self._members.pod(namespace, reference.name)
        return self._members.at(address)

    def _bare(self, meta: Metadata, address: str, endpoint: SliceEndpoint, health: Health) -> Workload:
        """Return a workload for an address without a known workload. It is called in plain TCP."""
        service = meta.labels.get(_SERVICE_NAME, meta.name)
        return Workload(
            uid=f"{self._mesh.cluster_id}{_BARE}{meta.namespace}/{meta.name}/{address}",
            name=meta.name,
            namespace=meta.namespace,
            addresses=(address,),
            identity=Identity(self._mesh.trust_domain, meta.namespace, "default"),
            tunnel_protocol=TunnelProtocol.NONE,
            node=endpoint.node_name,
            is_healthy=health is Health.READY,
            is_leaving=health is Health.LEAVING,
            workload_name=service,
            workload_type="pod",
            canonical_name=service,
            cluster_id=self._mesh.cluster_id,
            network=self._mesh.network,
            locality=self._members.localities.get(endpoint.node_name, ""),
        )


def is_bare(workload: Workload) -> bool:
    """Whether the workload stands for an address without a known workload."""
    return _BARE in workload.uid


def _service_of(resource: Resource[EndpointSlice]) -> ServiceName:
    return resource.key.namespace, resource.value.metadata.labels.get(_SERVICE_NAME, "")


def _key(resource: Resource[EndpointSlice]) -> ObjectKey:
    return resource.key


def _names(piece: EndpointSlice) -> Iterator[tuple[str, ...]]:
    """Yield what a slice names: pods by namespace and name, everything else by address."""
    for endpoint in piece.endpoints:
        reference = endpoint.target_ref
        if reference is not None and reference.kind == "Pod":
            yield piece.metadata.namespace, reference.name
        else:
            yield from ((canonical_ip(it),) for it in endpoint.addresses)


def tcp(ports: Iterable[ServicePortSpec]) -> Iterator[ServicePortSpec]:
    return (port for port in ports if port.protocol == "TCP")


def _targets(service: ServiceObject, member: Member) -> dict[int, int]:
    """Return the member's port for each of the service's ports.

    Ports with a named target that the member lacks are left out. A WorkloadEntry's `ports` also map the service port's
    name.
    """
    found = {}
    for port in tcp(service.spec.ports):
        if isinstance(port.target_port, str):
            target = member.port_names.get(port.target_port)
        else:
            mapped = member.port_names.get(port.name) if member.is_entry else None
            target = mapped or port.target_port or port.port
        if target is not None:
            found[port.port] = target
    return found


def _health(conditions: EndpointConditions) -> Health:
    is_serving = conditions.ready if conditions.serving is None else conditions.serving
    if conditions.terminating:
        return Health.LEAVING if is_serving else Health.NOT_READY
    return Health.READY if conditions.ready else Health.NOT_READY


def _mirrored(endpoints: Endpoints) -> Iterator[EndpointSlice]:
    """Convert Endpoints to the slices that a cluster creates from them."""
    name, namespace = endpoints.metadata.name, endpoints.metadata.namespace
    meta = Metadata(name, namespace, {_SERVICE_NAME: name})
    for subset in endpoints.subsets:
        members = [
            SliceEndpoint((it.ip,), EndpointConditions(ready=is_ready), it.target_ref, it.node_name)
            for addresses, is_ready in ((subset.addresses, True), (subset.not_ready_addresses, False))
            for it in addresses
        ]
        yield EndpointSlice(meta, tuple(members), subset.ports)
