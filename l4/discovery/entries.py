"""ServiceEntries → services: a name outside the cluster, or one that is nobody's Service, becomes one like any other.

Where the resolution is DNS, the endpoints are names (`Service.names`); whoever connects looks them up. With resolution
NONE a connection goes on to the address that was called, which is known here for single addresses only.
"""

from collections.abc import Callable, Iterable, Iterator

from l4.config.codes import Code
from l4.config.documents import Problem
from l4.config.resources import Resource, Resources
from l4.discovery.objects import ServicePortSpec, canonical_ip
from l4.discovery.service_entry import EntryEndpoint, EntryPort, ServiceEntry, WorkloadEntry, is_ip
from l4.discovery.waypoints import Bindings
from l4.discovery.workload import (
    AppProtocol,
    NamedEndpoint,
    Service,
    ServiceEndpoint,
    ServicePort,
    TunnelProtocol,
    Workload,
)
from policies.attributes import Identity


class Entries:
    """`pod_at` finds the pod of an address, which may speak HBONE; `selected` those that a selector means."""

    def __init__(
        self,
        resources: Resources,
        bindings: Bindings,
        *,
        trust_domain: str,
        cluster_id: str,
        app_protocol: Callable[[ServicePortSpec], AppProtocol],
        pod_at: Callable[[str], Workload | None],
        selected: Callable[[str, dict[str, str]], Iterable[Workload]],
    ) -> None:
        self.problems: list[Problem] = []
        self._entries = resources.of(ServiceEntry)
        self._workloads = resources.of(WorkloadEntry)
        self._bindings = bindings
        self._trust_domain = trust_domain
        self._cluster_id = cluster_id
        self._app_protocol = app_protocol
        self._pod_at = pod_at
        self._selected = selected

    def services(self) -> Iterator[Service]:
        for resource in self._entries:
            spec = resource.value.spec
            for index, host in enumerate(spec.hosts):
                if host.startswith("*"):
                    self._tell(resource, f"spec.hosts[{index}]", f"{host}: wildcards are not carried out")
                    continue
                yield self._service(resource, host.rstrip(".").lower())

    def _service(self, resource: Resource[ServiceEntry], host: str) -> Service:
        entry, key = resource.value, resource.key
        addresses = tuple(dict.fromkeys(map(canonical_ip, entry.addresses_of(host))))
        if not addresses and self._bindings.of_entry(resource) is not None:
            sentence = f"{host} has no single address, so that only tunnels that name it come here; give it one"
            self._tell(resource, "spec.addresses", sentence, Code.SERVICE_NOT_REACHABLE)
        return Service(
            name=key.name,
            namespace=key.namespace,
            hostname=host,
            addresses=addresses,
            ports=tuple(self._port(port) for port in entry.spec.ports),
            endpoints=tuple(self._endpoints(resource, addresses)),
            waypoint=self._bindings.of_entry(resource),
            is_entry=True,
            names=tuple(self._names(resource, host)),
        )

    def _port(self, port: EntryPort) -> ServicePort:
        spec = ServicePortSpec(port.number, port.name, app_protocol=port.protocol or None)
        return ServicePort(port.number, port.name, self._app_protocol(spec))

    def _endpoints(self, resource: Resource[ServiceEntry], addresses: tuple[str, ...]) -> Iterator[ServiceEndpoint]:
        spec = resource.value.spec
        match spec.resolution:
            case "NONE" if len(addresses) == 1:
                itself = {port.number: port.number for port in spec.ports}
                yield ServiceEndpoint(self._workload(resource, EntryEndpoint(addresses[0])), itself)
            case "NONE" | "DYNAMIC_DNS":
                sentence = f"{spec.resolution} is carried out for a single address only; no endpoint is known"
                self._tell(resource, "spec.resolution", sentence)
            case _:
                for endpoint in self._members(resource):
                    if is_ip(endpoint.address):
                        yield ServiceEndpoint(self._workload(resource, endpoint), _targets(spec.ports, endpoint))
                if spec.workload_selector is not None:
                    for pod in self._selected(resource.key.namespace, spec.workload_selector.labels):
                        yield ServiceEndpoint(pod, _targets(spec.ports, EntryEndpoint()))

    def _members(self, resource: Resource[ServiceEntry]) -> Iterator[EntryEndpoint]:
        spec = resource.value.spec
        yield from spec.endpoints
        if spec.workload_selector is not None:
            for it in self._workloads:
                if it.key.namespace == resource.key.namespace and spec.workload_selector.selects(it.value.spec.labels):
                    yield it.value.spec

    def _names(self, resource: Resource[ServiceEntry], host: str) -> Iterator[NamedEndpoint]:
        """Without endpoints the host is looked up itself."""
        spec = resource.value.spec
        if not spec.resolution.startswith("DNS"):
            return
        members = list(self._members(resource)) or [EntryEndpoint(host)]
        for endpoint in members:
            if not is_ip(endpoint.address):
                workload = self._workload(resource, endpoint)
                yield NamedEndpoint(endpoint.address.lower(), _targets(spec.ports, endpoint), endpoint.weight, workload)

    def _workload(self, resource: Resource[ServiceEntry], endpoint: EntryEndpoint) -> Workload:
        key = resource.key
        address = (canonical_ip(endpoint.address),) if is_ip(endpoint.address) else ()
        pod = self._pod_at(address[0]) if address else None
        if pod is not None:
            return pod
        return Workload(
            uid=f"{self._cluster_id}/networking.istio.io/ServiceEntry/{key.namespace}/{key.name}/{endpoint.address}",
            name=key.name,
            namespace=key.namespace,
            addresses=address,
            identity=Identity(self._trust_domain, key.namespace, endpoint.service_account),
            tunnel_protocol=TunnelProtocol.NONE,
            node="",
            is_healthy=endpoint.weight > 0,
            workload_name=key.name,
            workload_type="pod",
            canonical_name=key.name,
            cluster_id=self._cluster_id,
            network=endpoint.network,
            labels=endpoint.labels,
            locality=endpoint.locality,
            capacity=max(endpoint.weight, 1),
        )

    def _tell(
        self, resource: Resource[ServiceEntry], field: str, sentence: str, code: Code = Code.NOT_CARRIED_OUT
    ) -> None:
        self.problems.append(Problem(resource.origin, str(resource.key), field, sentence, code))


def _targets(ports: Iterable[EntryPort], endpoint: EntryEndpoint) -> dict[int, int]:
    """The endpoint's own port for each of the service's: by name, else the target port, else the same number."""
    return {port.number: endpoint.ports.get(port.name) or port.target_port or port.number for port in ports}
