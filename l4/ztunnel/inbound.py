"""Decide whether a CONNECT may enter a pod, and at which port: ztunnel's checks as a pure function.

The pod is the one at the address of the connection; the request only selects the port. The tunnel is answered with 200
only after the application has accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from l4.discovery.registry import Registry
from l4.discovery.workload import ApplicationTunnel, Service, Workload
from l4.hbone.connect import Authority
from l4.telemetry.propagation import parse_forwarded
from l4.ztunnel.outbound import OWN_PORTS


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of a connection. `services` are those that have the pod as an endpoint with this port.

    `called` is the address for which the pod's own proxy gets it, to be told in a header, or None without one.
    """

    workload: Workload
    address: tuple[str, int]
    services: tuple[Service, ...]
    called: tuple[str, int] | None = None

    def service_for(self, forwarded: bytes) -> Service | None:
        """Return the service that the caller named in a `forwarded` header, else the first. For telemetry only."""
        services = self.services
        if len(services) > 1:
            host = parse_forwarded(forwarded).host
            for service in services:
                if service.hostname == host:
                    return service
        return services[0] if services else None


@dataclass(frozen=True, slots=True)
class Rejected:
    status: int
    reason: str


def target_of(registry: Registry, pod_uid: str, authority: Authority, local_ip: str) -> Target | Rejected:
    """Check a CONNECT that arrived at `local_ip`."""
    workload = registry.workloads.get(pod_uid)
    if workload is None:
        return Rejected(503, "the workload is no longer known")
    if workload.application_tunnel is not None:
        return _to_its_proxy(registry, workload, workload.application_tunnel, authority, local_ip)
    if authority.host == local_ip:
        port = authority.port
    elif authority.is_ip:
        return Rejected(400, f"ip mismatch: {authority.host} != {local_ip}")
    else:
        if authority.host not in registry.services:
            return Rejected(503, f"no service or workload for hostname: {authority.host}")
        ports = _ports_of(registry, authority.host, pod_uid)
        if ports is None:
            return Rejected(400, f"{authority.host} is not a service of this workload")
        if authority.port not in ports:
            return Rejected(503, f"no port for services: {authority}")
        port = ports[authority.port]
    if port in OWN_PORTS:
        return Rejected(503, "attempted recursive call to ourselves")
    return Target(workload, (local_ip, port), services_with(registry, pod_uid, port))


def _to_its_proxy(
    registry: Registry, workload: Workload, tunnel: ApplicationTunnel, authority: Authority, local_ip: str
) -> Target | Rejected:
    """The pod's own proxy decides what it takes."""
    port = tunnel.port or authority.port
    if port in OWN_PORTS:
        return Rejected(503, "attempted recursive call to ourselves")
    services = services_with(registry, workload.uid, port)
    if not tunnel.has_header:
        return Target(workload, (local_ip, port), services)
    ip = authority.host if authority.is_ip else _address_of(registry.services.get(authority.host), local_ip)
    if ip is None:
        return Rejected(503, f"no address for hostname: {authority.host}")
    return Target(workload, (local_ip, port), services, called=(ip, authority.port))


def _address_of(service: Service | None, local_ip: str) -> str | None:
    """Return an address of the service, if possible of the family of `local_ip`."""
    addresses = service.addresses if service is not None else ()
    return next((it for it in addresses if (":" in it) == (":" in local_ip)), next(iter(addresses), None))


def _ports_of(registry: Registry, host: str, uid: str) -> Mapping[int, int] | None:
    return next((endpoint.ports for service, endpoint in registry.services_of(uid) if service.hostname == host), None)


def services_with(registry: Registry, uid: str, port: int) -> tuple[Service, ...]:
    """Return the services of which the workload is an endpoint with this target port."""
    return tuple([service for service, endpoint in registry.services_of(uid) if port in endpoint.ports.values()])
