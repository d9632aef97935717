"""Kubernetes objects → the registry: workloads, services, and which waypoint stands before them.

Pure. Labels and annotations mean what they mean to Istio ambient. What can't be bound is left unbound, as istiod does,
and told as a problem.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from l4.config.resources import Kinds, Resource, Resources
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.entries import Entries
from l4.discovery.objects import (
    EndpointSlice,
    Gateway,
    GatewayClass,
    Metadata,
    NamespaceObject,
    NodeObject,
    Pod,
    ServiceObject,
    ServicePortSpec,
    SliceEndpoint,
    canonical_ip,
)
from l4.discovery.peer_authentication import PeerAuthentication
from l4.discovery.registry import Registry
from l4.discovery.service_entry import ServiceEntry, WorkloadEntry
from l4.discovery.waypoints import Bindings
from l4.discovery.workload import AppProtocol, Service, ServiceEndpoint, ServicePort, TunnelProtocol, Workload
from policies.attributes import Identity

__all__ = ["KINDS", "Gateway", "Mesh", "app_protocol", "registry_of"]

KINDS: Kinds = {
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


@dataclass(frozen=True, slots=True)
class Mesh:
    """What holds for the whole mesh."""

    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    network: str = ""


def registry_of(resources: Resources, mesh: Mesh) -> Registry:
    """Index everything that the objects say."""
    bindings = Bindings(resources)
    members = _Members(resources, mesh, bindings)
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for resource in resources.of(EndpointSlice):
        name = resource.value.metadata.labels.get("kubernetes.io/service-name", "")
        slices.setdefault((resource.key.namespace, name), []).append(resource.value)
    services = []
    for service in resources.of(ServiceObject):
        if service.value.spec.type == "ExternalName":
            continue
        pieces = slices.get((service.key.namespace, service.key.name))
        found = _from_slices(service.value, pieces, members, mesh) if pieces else _from_selector(service.value, members)
        endpoints = {endpoint.workload.uid: endpoint for endpoint in found}  # a dual-stack pod has a slice per family
        services.append(_service(service, tuple(endpoints.values()), mesh, bindings))
    entries = Entries(
        resources,
        bindings,
        trust_domain=mesh.trust_domain,
        cluster_id=mesh.cluster_id,
        app_protocol=app_protocol,
        pod_at=lambda ip: member.workload if (member := members.at(ip)) is not None else None,
        selected=lambda namespace, labels: (it.workload for it in members.selected(namespace, labels)),
    )
    known = {service.hostname for service in services}
    services.extend(service for service in entries.services() if service.hostname not in known)
    workloads = [member.workload for member in members]
    workloads.extend(endpoint.workload for service in services for endpoint in service.endpoints)
    nameless = {member.workload.uid for member in members if member.pod.spec.host_network}
    nameless.update(_behind_their_own_service(services))
    return Registry.build(services, workloads, nameless, tuple(sorted({*bindings.problems, *entries.problems})))


def _behind_their_own_service(services: Iterable[Service]) -> Iterator[str]:
    """Of ServiceEntries with resolution NONE: whoever calls the address means the service."""
    for service in services:
        for endpoint in service.endpoints if service.is_entry else ():
            if not set(service.addresses).isdisjoint(endpoint.workload.addresses):
                yield endpoint.workload.uid


# -- workloads -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Member:
    pod: Pod
    workload: Workload


class _Members:
    """The pods that have an address, findable in the ways in which services name them."""

    def __init__(self, resources: Resources, mesh: Mesh, bindings: Bindings) -> None:
        self._by_name: dict[tuple[str, str], _Member] = {}
        self._by_ip: dict[str, _Member] = {}
        self._by_label: dict[tuple[str, str, str], list[_Member]] = {}
        self.localities = {node.key.name: node.value.locality for node in resources.of(NodeObject)}
        for resource in resources.of(Pod):
            pod, namespace = resource.value, resource.key.namespace
            if pod.is_over or not pod.addresses:
                continue
            locality = _locality(pod, self.localities)
            member = _Member(pod, _workload(resource, mesh, bindings, locality))
            self._by_name[namespace, resource.key.name] = member
            self._by_ip.update(dict.fromkeys(pod.addresses if not pod.spec.host_network else (), member))
            for label, value in pod.metadata.labels.items():
                self._by_label.setdefault((namespace, label, value), []).append(member)

    def __iter__(self) -> Iterator[_Member]:
        return iter(self._by_name.values())

    def named(self, namespace: str, name: str) -> _Member | None:
        return self._by_name.get((namespace, name))

    def at(self, ip: str) -> _Member | None:
        return self._by_ip.get(ip)

    def selected(self, namespace: str, selector: Mapping[str, str]) -> Iterator[_Member]:
        """An empty selector selects nothing, as for Services."""
        for label, value in list(selector.items())[:1]:
            for member in self._by_label.get((namespace, label, value), ()):
                if selector.items() <= member.pod.metadata.labels.items():
                    yield member


def _locality(pod: Pod, localities: Mapping[str, str]) -> str:
    """Of its node, unless a label of its own says otherwise; in a label dots stand for slashes."""
    own = pod.metadata.labels.get("istio-locality", "")
    return (own if "/" in own else own.replace(".", "/")) or localities.get(pod.spec.node_name, "")


def _workload(resource: Resource[Pod], mesh: Mesh, bindings: Bindings, locality: str) -> Workload:
    pod, meta = resource.value, resource.value.metadata
    owner, kind = _owner(meta)
    names = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
    revisions = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
    return Workload(
        uid=f"{mesh.cluster_id}//Pod/{meta.namespace}/{meta.name}",
        name=meta.name,
        namespace=meta.namespace,
        addresses=pod.addresses,
        identity=Identity(mesh.trust_domain, meta.namespace, pod.spec.service_account_name),
        tunnel_protocol=TunnelProtocol.HBONE if _speaks_hbone(meta) else TunnelProtocol.NONE,
        node=pod.spec.node_name,
        is_healthy=pod.is_healthy,
        workload_name=owner,
        workload_type=kind,
        canonical_name=_first(meta.labels, names, owner),
        canonical_revision=_first(meta.labels, revisions, "latest"),
        cluster_id=mesh.cluster_id,
        network=mesh.network,
        labels=meta.labels,
        annotations=meta.annotations,
        waypoint=bindings.of_pod(resource),
        ports=tuple(sorted({port.container_port for container in pod.spec.containers for port in container.ports})),
        locality=locality,
    )


def _speaks_hbone(meta: Metadata) -> bool:
    tunnels = meta.labels.get("networking.istio.io/tunnel", "").split(",")
    return meta.annotations.get("ambient.istio.io/redirection") == "enabled" or "http" in tunnels


def _owner(meta: Metadata) -> tuple[str, str]:
    """The name of what made the pod, and its kind; a ReplicaSet stands for its Deployment."""
    template_hash = meta.labels.get("pod-template-hash", "")
    for owner in meta.owner_references:
        if owner.kind == "ReplicaSet":
            return owner.name.removesuffix(f"-{template_hash}"), "deployment"
        return owner.name, owner.kind.lower() if owner.kind in {"Deployment", "Job", "CronJob"} else "pod"
    if template_hash and (name := meta.name.rpartition(f"-{template_hash}-")[0]):
        return name, "deployment"
    return meta.name, "pod"


def _first(labels: Mapping[str, str], names: Iterable[str], default: str) -> str:
    return next((labels[name] for name in names if labels.get(name)), default)


# -- services ------------------------------------------------------------------------------------------------------


def _service(
    resource: Resource[ServiceObject], endpoints: tuple[ServiceEndpoint, ...], mesh: Mesh, bindings: Bindings
) -> Service:
    meta, spec = resource.value.metadata, resource.value.spec
    return Service(
        name=meta.name,
        namespace=meta.namespace,
        hostname=f"{meta.name}.{meta.namespace}.svc.{mesh.cluster_domain}",
        addresses=spec.addresses,
        ports=tuple(ServicePort(port.port, port.name, app_protocol(port)) for port in _tcp(spec.ports)),
        endpoints=endpoints,
        waypoint=bindings.of_service(resource),
        traffic_distribution=meta.annotations.get(_DISTRIBUTION, "") or spec.traffic_distribution,
    )


def _tcp(ports: Iterable[ServicePortSpec]) -> Iterator[ServicePortSpec]:
    return (port for port in ports if port.protocol == "TCP")


_BY_NAME = {
    "http": AppProtocol.HTTP,
    "ws": AppProtocol.HTTP,
    "http2": AppProtocol.HTTP2,
    "h2c": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
    "grpc-web": AppProtocol.GRPC_WEB,
    "https": AppProtocol.TLS,
    "tls": AppProtocol.TLS,
    **dict.fromkeys(("tcp", "hbone", "mongo", "mysql", "redis"), AppProtocol.TCP),
}


def app_protocol(port: ServicePortSpec) -> AppProtocol:
    """From `appProtocol`, else from the port's name: the name itself, or what stands before a dash (`grpc-web` has
    one of its own)."""
    if port.app_protocol is not None:
        return _BY_NAME.get(port.app_protocol.lower().removeprefix("kubernetes.io/"), AppProtocol.UNKNOWN)
    name = port.name.lower()
    if name == "grpc-web" or name.startswith("grpc-web-"):
        return AppProtocol.GRPC_WEB
    return _BY_NAME.get(name.partition("-")[0], AppProtocol.UNKNOWN)


def _from_selector(service: ServiceObject, members: _Members) -> Iterator[ServiceEndpoint]:
    for member in members.selected(service.metadata.namespace, service.spec.selector):
        ports = {port.port: target for port in _tcp(service.spec.ports) if (target := _target(port, member.pod))}
        yield ServiceEndpoint(member.workload, ports)


def _target(port: ServicePortSpec, pod: Pod) -> int | None:
    """The pod's port for a service port; None when it is named and the pod has no port of that name."""
    if not isinstance(port.target_port, str):
        return port.target_port or port.port
    ports = (it for container in pod.spec.containers for it in container.ports)
    return next((it.container_port for it in ports if it.name == port.target_port), None)


def _from_slices(
    service: ServiceObject, slices: list[EndpointSlice], members: _Members, mesh: Mesh
) -> Iterator[ServiceEndpoint]:
    for piece in slices:
        targets = {port.name: port.port for port in piece.ports if port.port is not None and port.protocol == "TCP"}
        ports = {port.port: targets[port.name] for port in _tcp(service.spec.ports) if port.name in targets}
        for endpoint in piece.endpoints:
            if not endpoint.conditions.ready or endpoint.conditions.terminating:
                continue
            for address in map(canonical_ip, endpoint.addresses):
                member = _behind(piece.metadata.namespace, endpoint, address, members)
                locality = members.localities.get(endpoint.node_name, "")
                workload = (
                    member.workload if member else _bare_workload(piece.metadata, address, endpoint, mesh, locality)
                )
                yield ServiceEndpoint(workload, ports)


def _behind(namespace: str, endpoint: SliceEndpoint, address: str, members: _Members) -> _Member | None:
    reference = endpoint.target_ref
    if reference is not None and reference.kind == "Pod":
        return members.named(namespace, reference.name)
    return members.at(address)


def _bare_workload(meta: Metadata, address: str, endpoint: SliceEndpoint, mesh: Mesh, locality: str) -> Workload:
    """An address in an EndpointSlice behind which we know no pod: plain TCP."""
    service = meta.labels.get("kubernetes.io/service-name", meta.name)
    return Workload(
        uid=f"{mesh.cluster_id}/discovery.k8s.io/EndpointSlice/{meta.namespace}/{meta.name}/{address}",
        name=meta.name,
        namespace=meta.namespace,
        addresses=(address,),
        identity=Identity(mesh.trust_domain, meta.namespace, "default"),
        tunnel_protocol=TunnelProtocol.NONE,
        node=endpoint.node_name,
        is_healthy=True,
        workload_name=service,
        workload_type="pod",
        canonical_name=service,
        cluster_id=mesh.cluster_id,
        network=mesh.network,
        locality=locality,
    )
