"""Kubernetes objects → the registry: workloads, services, and which waypoint stands before them.

Pure. Labels and annotations mean what they mean to Istio ambient. What can't be bound is left unbound, as istiod does,
and told as a problem.
"""

from collections.abc import Iterable, Iterator

from l4.config.resources import Kinds, Resource, Resources
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.endpoints import ServiceEndpoints, tcp
from l4.discovery.entries import Entries
from l4.discovery.members import Members
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
from l4.discovery.peer_authentication import PeerAuthentication
from l4.discovery.ports import app_protocol
from l4.discovery.registry import Registry
from l4.discovery.service_entry import ServiceEntry, WorkloadEntry
from l4.discovery.waypoints import Bindings
from l4.discovery.workload import GatewayAddress, Service, ServicePort

__all__ = ["KINDS", "Gateway", "Mesh", "app_protocol", "registry_of"]

KINDS: Kinds = {
    ("", "Endpoints"): Endpoints,
    ("", "Namespace"): NamespaceObject,
    ("", "Node"): NodeObject,
    ("", "Pod"): Pod,
    ("", "Service"): ServiceObject,
    ("discovery.k8s.io", "EndpointSlice"): EndpointSlice,
    ("gateway.networking.k8s.io", "Gateway"): Gateway,
    ("gateway.networking.k8s.io", "GatewayClass"): GatewayClass,
    ("networking.istio.io", "ServiceEntry"): ServiceEntry,
    ("networking.istio.io", "WorkloadEntry"): WorkloadEntry,
    ("security.istio.io", "AuthorizationPolicy"): AuthorizationPolicy,
    ("security.istio.io", "PeerAuthentication"): PeerAuthentication,
}


_DISTRIBUTION = "networking.istio.io/traffic-distribution"


def registry_of(resources: Resources, mesh: Mesh) -> Registry:
    """Index everything that the objects say."""
    bindings = Bindings(resources)
    members = Members(resources, mesh, bindings)
    endpoints = ServiceEndpoints(resources, members, mesh)
    services: list[Service] = []
    aliases: dict[tuple[str, str], str] = {}
    for service in resources.of(ServiceObject):
        if service.value.spec.type == "ExternalName":
            aliases[service.key.namespace, service.key.name] = service.value.spec.external_name
        else:
            services.append(_service(service, endpoints, mesh, bindings.of_service(service)))
    entries = Entries(resources, members, mesh, bindings)
    services.extend(entries.services(tuple(services)))
    workloads = [member.workload for member in members]
    workloads.extend(endpoint.workload for service in services for endpoint in service.endpoints)
    nameless = {member.workload.uid for member in members if member.is_nameless}
    nameless.update(_behind_their_own_service(services))
    problems = tuple(sorted({*bindings.problems, *entries.problems}))
    return Registry.build(services, workloads, nameless, problems, aliases)


def _behind_their_own_service(services: Iterable[Service]) -> Iterator[str]:
    """Of ServiceEntries with resolution NONE: whoever calls the address means the service."""
    for service in services:
        for endpoint in service.endpoints if service.is_entry else ():
            if not set(service.addresses).isdisjoint(endpoint.workload.addresses):
                yield endpoint.workload.uid


def _service(
    resource: Resource[ServiceObject], endpoints: ServiceEndpoints, mesh: Mesh, waypoint: GatewayAddress | None
) -> Service:
    meta, spec = resource.value.metadata, resource.value.spec
    return Service(
        name=meta.name,
        namespace=meta.namespace,
        hostname=f"{meta.name}.{meta.namespace}.svc.{mesh.cluster_domain}",
        addresses=spec.addresses,
        ports=tuple(ServicePort(port.port, port.name, app_protocol(port)) for port in tcp(spec.ports)),
        endpoints=endpoints.of(resource.value),
        waypoint=waypoint,
        names=endpoints.names(resource.value),
        traffic_distribution=meta.annotations.get(_DISTRIBUTION, "") or spec.traffic_distribution,
    )
