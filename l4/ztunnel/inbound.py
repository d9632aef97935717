"""Whether a CONNECT may enter a pod, and at which port: ztunnel's checks, as a pure function.

The pod is the one whose address was connected to; only the port comes from the request. Nothing is answered 200 before
the application has accepted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from l4.discovery.registry import Registry
from l4.discovery.workload import Service, Workload
from l4.hbone.connect import Authority

_OWN_PORTS = frozenset({15001, 15006, 15008})


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect. `services` are those that the pod is a member of with this port."""

    workload: Workload
    address: tuple[str, int]
    services: tuple[Service, ...]

    def service_for(self, forwarded_host: str) -> Service | None:
        """The service that the caller meant, for telemetry only: the one it names, else the first."""
        named = (service for service in self.services if service.hostname == forwarded_host)
        return next(named, self.services[0] if self.services else None)


@dataclass(frozen=True, slots=True)
class Rejected:
    status: int
    reason: str


def target_of(registry: Registry, pod_uid: str, authority: Authority, local_ip: str) -> Target | Rejected:
    """Check a CONNECT that arrived at `local_ip`."""
    workload = registry.workloads.get(pod_uid)
    if workload is None:
        return Rejected(503, "the workload is no longer known")
    if authority.is_ip:
        if authority.host != local_ip:
            return Rejected(400, f"ip mismatch: {authority.host} != {local_ip}")
        port = authority.port
    else:
        service = registry.services.get(authority.host)
        if service is None:
            return Rejected(503, f"no service or workload for hostname: {authority.host}")
        found = _port_of(service, workload, authority.port)
        if found is None:
            return Rejected(503, f"no port for services: {authority}")
        port = found
    if port in _OWN_PORTS:
        return Rejected(503, "attempted recursive call to ourselves")
    return Target(workload, (local_ip, port), tuple(_services_with(registry, workload, port)))


def _port_of(service: Service, workload: Workload, port: int) -> int | None:
    for endpoint in service.endpoints:
        if endpoint.workload.uid == workload.uid:
            return endpoint.ports.get(port)
    return None


def _services_with(registry: Registry, workload: Workload, port: int) -> Iterator[Service]:
    for service in registry.services.values():
        for endpoint in service.endpoints:
            if endpoint.workload.uid == workload.uid and port in endpoint.ports.values():
                yield service
