"""Kubernetes objects → what the mesh knows: workloads, services, and which waypoint stands before them.

Pure. Labels and annotations mean what they mean to Istio ambient (`istio.io/use-waypoint`, `istio.io/waypoint-for`,
`ambient.istio.io/redirection`, …). What can't be bound is left unbound, as istiod does, and told as a problem.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct, field

from l4.config.documents import Origin, Problem
from l4.config.resources import Kinds, Resource, Resources
from l4.discovery.registry import Registry
from l4.discovery.workload import (
    AppProtocol,
    GatewayAddress,
    Service,
    ServiceEndpoint,
    ServicePort,
    TunnelProtocol,
    Workload,
)
from policies.attributes import Identity

PortNumber = Annotated[int, Meta(ge=1, le=65535)]

USE_WAYPOINT = "istio.io/use-waypoint"
USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace"
WAYPOINT_FOR = "istio.io/waypoint-for"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
MANAGED = "gateway.istio.io/managed"


class Metadata(Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner_references: tuple["OwnerReference", ...] = ()
    deletion_timestamp: str | None = None
    creation_timestamp: str = ""


class OwnerReference(Struct, frozen=True, rename="camel"):
    kind: str
    name: str


class NamespaceObject(Struct, frozen=True, rename="camel"):
    metadata: Metadata


class ContainerPort(Struct, frozen=True, rename="camel"):
    container_port: PortNumber
    name: str = ""


class Container(Struct, frozen=True, rename="camel"):
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(Struct, frozen=True, rename="camel"):
    service_account_name: str = "default"
    node_name: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()


class PodIP(Struct, frozen=True):
    ip: str

    def __post_init__(self) -> None:
        _check_ip(self.ip)


class Condition(Struct, frozen=True):
    type: str
    status: str = "Unknown"


class PodStatus(Struct, frozen=True, rename="camel"):
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = field(default=(), name="podIPs")
    phase: str = "Running"
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.pod_ip:
            _check_ip(self.pod_ip)


class Pod(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        texts = [self.status.pod_ip, *(it.ip for it in self.status.pod_ips)]
        return tuple(dict.fromkeys(canonical_ip(text) for text in texts if text))

    @property
    def is_healthy(self) -> bool:
        """Ready and not terminating; a hand-written pod without conditions counts as ready."""
        ready = [condition.status for condition in self.status.conditions if condition.type == "Ready"]
        is_running = self.status.phase == "Running" and not self.metadata.deletion_timestamp
        return is_running and (not ready or ready[0] == "True")


class ServicePortSpec(Struct, frozen=True, rename="camel"):
    port: PortNumber
    name: str = ""
    protocol: str = "TCP"
    target_port: PortNumber | str | None = None
    app_protocol: str | None = None


class ServiceSpec(Struct, frozen=True, rename="camel"):
    type: str = "ClusterIP"
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = field(default=(), name="clusterIPs")
    ports: tuple[ServicePortSpec, ...] = ()
    selector: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for address in self.addresses:
            _check_ip(address)

    @property
    def addresses(self) -> tuple[str, ...]:
        texts = (self.cluster_ip, *self.cluster_ips)
        return tuple(dict.fromkeys(text for text in texts if text not in {"", "None"}))


class ServiceObject(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


class EndpointConditions(Struct, frozen=True):
    ready: bool | None = None
    terminating: bool | None = None


class TargetRef(Struct, frozen=True):
    kind: str = ""
    name: str = ""


class SliceEndpoint(Struct, frozen=True, rename="camel"):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetRef | None = None
    node_name: str = ""

    def __post_init__(self) -> None:
        for address in self.addresses:
            _check_ip(address)


class SlicePort(Struct, frozen=True, rename="camel"):
    name: str = ""
    port: PortNumber | None = None
    protocol: str = "TCP"


class EndpointSlice(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()


class GatewayStatusAddress(Struct, frozen=True):
    value: str
    type: str = "IPAddress"


class GatewayStatus(Struct, frozen=True):
    addresses: tuple[GatewayStatusAddress, ...] = ()


class LabelSelector(Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = field(default_factory=dict)


class RouteNamespaces(Struct, frozen=True, rename="camel"):
    from_: str = field(default="Same", name="from")
    selector: LabelSelector = LabelSelector()


class AllowedRoutes(Struct, frozen=True):
    namespaces: RouteNamespaces = RouteNamespaces()


class Listener(Struct, frozen=True, rename="camel"):
    name: str
    port: PortNumber
    protocol: str
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewaySpec(Struct, frozen=True, rename="camel"):
    gateway_class_name: str
    listeners: tuple[Listener, ...] = ()


class Gateway(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    spec: GatewaySpec
    status: GatewayStatus = GatewayStatus()


class GatewayClass(Struct, frozen=True, rename="camel"):
    metadata: Metadata


KINDS: Kinds = {
    ("", "Namespace"): NamespaceObject,
    ("", "Pod"): Pod,
    ("", "Service"): ServiceObject,
    ("discovery.k8s.io", "EndpointSlice"): EndpointSlice,
    ("gateway.networking.k8s.io", "Gateway"): Gateway,
    ("gateway.networking.k8s.io", "GatewayClass"): GatewayClass,
}


def canonical_ip(text: str) -> str:
    """The one way to write an address; IPv4 mapped into IPv6 is IPv4."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _check_ip(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address") from None


@dataclass(frozen=True, slots=True)
class Mesh:
    """What holds for the whole mesh."""

    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    network: str = ""


def registry_of(resources: Resources, mesh: Mesh) -> Registry:
    """Index everything that the objects say."""
    problems: list[Problem] = []
    bindings = _Bindings(resources, mesh, problems)
    pods = [resource.value for resource in resources.of(Pod) if resource.value.addresses]
    workloads = {(pod.metadata.namespace, pod.metadata.name): _workload(pod, mesh, bindings) for pod in pods}
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for resource in resources.of(EndpointSlice):
        name = resource.value.metadata.labels.get("kubernetes.io/service-name", "")
        slices.setdefault((resource.value.metadata.namespace, name), []).append(resource.value)
    services = []
    for service in resources.of(ServiceObject):
        if service.value.spec.type == "ExternalName":
            continue
        key = (service.key.namespace, service.key.name)
        if key in slices:
            endpoints = tuple(_from_slices(service.value, slices[key], pods, workloads, mesh))
        else:
            endpoints = tuple(_from_selector(service.value, pods, workloads))
        services.append(_service(service, endpoints, mesh, bindings))
    host_network = {
        key for pod in pods if pod.spec.host_network for key in [(pod.metadata.namespace, pod.metadata.name)]
    }
    extra = [endpoint.workload for service in services for endpoint in service.endpoints]
    return Registry.build(
        services, [*workloads.values(), *extra], {workloads[key].uid for key in host_network}, tuple(sorted(problems))
    )


# -- workloads -----------------------------------------------------------------------------------------------------


def _workload(pod: Pod, mesh: Mesh, bindings: "_Bindings") -> Workload:
    meta = pod.metadata
    owner, kind = _owner(meta)
    labels = meta.labels
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
        canonical_name=_first(
            labels, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app", default=owner
        ),
        canonical_revision=_first(
            labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version", default="latest"
        ),
        cluster_id=mesh.cluster_id,
        network=mesh.network,
        labels=labels,
        annotations=meta.annotations,
        waypoint=bindings.of_workload(meta),
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
        if owner.kind in {"Deployment", "Job", "CronJob"}:
            return owner.name, owner.kind.lower()
        return owner.name, "pod"
    if template_hash and (name := meta.name.rpartition(f"-{template_hash}-")[0]):
        return name, "deployment"
    return meta.name, "pod"


def _first(labels: Mapping[str, str], *names: str, default: str) -> str:
    return next((labels[name] for name in names if labels.get(name)), default)


# -- services ------------------------------------------------------------------------------------------------------


def _service(
    resource: Resource[ServiceObject], endpoints: tuple[ServiceEndpoint, ...], mesh: Mesh, bindings: "_Bindings"
) -> Service:
    meta, spec = resource.value.metadata, resource.value.spec
    return Service(
        name=meta.name,
        namespace=meta.namespace,
        hostname=f"{meta.name}.{meta.namespace}.svc.{mesh.cluster_domain}",
        addresses=tuple(map(canonical_ip, spec.addresses)),
        ports=tuple(ServicePort(port.port, port.name, app_protocol(port)) for port in _tcp(spec.ports)),
        endpoints=endpoints,
        waypoint=bindings.of_service(meta, resource.origin),
    )


def _tcp(ports: Iterable[ServicePortSpec]) -> Iterator[ServicePortSpec]:
    return (port for port in ports if port.protocol == "TCP")


_BY_NAME = {
    "http": AppProtocol.HTTP,
    "ws": AppProtocol.HTTP,
    "http2": AppProtocol.HTTP2,
    "h2c": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
    "grpc-web": AppProtocol.GRPC,
    "https": AppProtocol.TLS,
    "tls": AppProtocol.TLS,
    **dict.fromkeys(("tcp", "hbone", "mongo", "mysql", "redis"), AppProtocol.TCP),
}


def app_protocol(port: ServicePortSpec) -> AppProtocol:
    """From `appProtocol`, else from the port's name: the name itself, or what stands before a dash."""
    if port.app_protocol is not None:
        return _BY_NAME.get(port.app_protocol.lower().removeprefix("kubernetes.io/"), AppProtocol.UNKNOWN)
    name = port.name.lower()
    if name.startswith("grpc-web"):
        return AppProtocol.GRPC
    return _BY_NAME.get(name.partition("-")[0], AppProtocol.UNKNOWN)


def _from_selector(
    service: ServiceObject, pods: list[Pod], workloads: Mapping[tuple[str, str], Workload]
) -> Iterator[ServiceEndpoint]:
    selector = service.spec.selector.items()
    for pod in pods:
        meta = pod.metadata
        if selector and meta.namespace == service.metadata.namespace and selector <= meta.labels.items():
            ports = {port.port: target for port in _tcp(service.spec.ports) if (target := _target(port, pod))}
            yield ServiceEndpoint(workloads[meta.namespace, meta.name], ports)


def _target(port: ServicePortSpec, pod: Pod) -> int | None:
    """The pod's port for a service port; None when it is named and the pod has no port of that name."""
    if isinstance(port.target_port, str):
        named = (it.container_port for container in pod.spec.containers for it in container.ports)
        names = (it.name for container in pod.spec.containers for it in container.ports)
        return next((number for name, number in zip(names, named, strict=True) if name == port.target_port), None)
    return port.target_port or port.port


def _from_slices(
    service: ServiceObject,
    slices: list[EndpointSlice],
    pods: list[Pod],
    workloads: Mapping[tuple[str, str], Workload],
    mesh: Mesh,
) -> Iterator[ServiceEndpoint]:
    namespace = service.metadata.namespace
    by_ip = {address: (pod.metadata.namespace, pod.metadata.name) for pod in pods for address in pod.addresses}
    for piece in slices:
        targets = {port.name: port.port for port in piece.ports if port.port is not None and port.protocol == "TCP"}
        ports = {port.port: targets[port.name] for port in _tcp(service.spec.ports) if port.name in targets}
        for endpoint in piece.endpoints:
            reference = endpoint.target_ref
            key = (namespace, reference.name) if reference and reference.kind == "Pod" else None
            for address in map(canonical_ip, endpoint.addresses):
                workload = workloads.get(key or by_ip.get(address, ("", "")))
                if workload is None:
                    workload = _bare_workload(piece.metadata, address, endpoint, mesh)
                yield ServiceEndpoint(workload, ports)


def _bare_workload(meta: Metadata, address: str, endpoint: SliceEndpoint, mesh: Mesh) -> Workload:
    """An address in an EndpointSlice behind which we know no pod: plain TCP."""
    ready = endpoint.conditions
    return Workload(
        uid=f"{mesh.cluster_id}/discovery.k8s.io/EndpointSlice/{meta.namespace}/{meta.name}/{address}",
        name=meta.name,
        namespace=meta.namespace,
        addresses=(address,),
        identity=Identity(mesh.trust_domain, meta.namespace, "default"),
        tunnel_protocol=TunnelProtocol.NONE,
        node=endpoint.node_name,
        is_healthy=ready.ready is not False and not ready.terminating,
        workload_name=meta.labels.get("kubernetes.io/service-name", meta.name),
        workload_type="pod",
        canonical_name=meta.labels.get("kubernetes.io/service-name", meta.name),
        cluster_id=mesh.cluster_id,
        network=mesh.network,
    )


# -- waypoints -----------------------------------------------------------------------------------------------------


class _Bindings:
    """Which waypoint stands before an object. The object's own label wins over its namespace's, and there is no
    falling back: a label that names an unusable waypoint means no waypoint."""

    def __init__(self, resources: Resources, mesh: Mesh, problems: list[Problem]) -> None:
        self._gateways = {(it.key.namespace, it.key.name): it.value for it in resources.of(Gateway)}
        self._classes = {it.key.name: it.value for it in resources.of(GatewayClass)}
        self._namespaces = {it.key.name: it.value.metadata.labels for it in resources.of(NamespaceObject)}
        self._mesh = mesh
        self._problems = problems

    def of_service(self, meta: Metadata, origin: Origin) -> GatewayAddress | None:
        return self._bound(meta, "service", origin)

    def of_workload(self, meta: Metadata) -> GatewayAddress | None:
        return self._bound(meta, "workload", None)

    def _bound(self, meta: Metadata, traffic: str, origin: Origin | None) -> GatewayAddress | None:
        if GATEWAY_NAME in meta.labels or MANAGED in meta.labels:
            return None  # a waypoint has no waypoint
        labels = meta.labels if USE_WAYPOINT in meta.labels else self._namespaces.get(meta.namespace, {})
        name = labels.get(USE_WAYPOINT, "none")
        if name == "none":
            return None
        namespace = labels.get(USE_WAYPOINT_NAMESPACE, meta.namespace)
        reason = self._why_not(namespace, name, meta.namespace, traffic)
        if reason is None:
            return self._address(namespace, self._gateways[namespace, name])
        if reason and origin is not None:
            subject = f"Service {meta.namespace}/{meta.name}"
            sentence = f"waypoint {namespace}/{name} is not used: {reason}; traffic goes without it"
            self._problems.append(Problem(origin, subject, f"metadata.labels[{USE_WAYPOINT}]", sentence))
        return None

    def _why_not(self, namespace: str, name: str, client_namespace: str, traffic: str) -> str | None:
        """None when the waypoint may be used; empty when it is simply not meant for this traffic."""
        gateway = self._gateways.get((namespace, name))
        if gateway is None:
            return "there is no such Gateway"
        known = self._classes.get(gateway.spec.gateway_class_name)
        default = known.metadata.annotations.get(WAYPOINT_FOR, "service") if known else "service"
        serves = gateway.metadata.labels.get(WAYPOINT_FOR, default)
        if serves not in {traffic, "all"}:
            return ""
        if client_namespace != namespace and not self._allows(gateway, client_namespace):
            return f"its listener's allowedRoutes do not let namespace {client_namespace} in"
        if not gateway.status.addresses:
            return "it has no address in its status yet"
        return None

    def _allows(self, gateway: Gateway, namespace: str) -> bool:
        for listener in gateway.spec.listeners:
            if listener.protocol != "HBONE":
                continue
            rule = listener.allowed_routes.namespaces
            labels = {"kubernetes.io/metadata.name": namespace} | dict(self._namespaces.get(namespace, {}))
            if rule.from_ == "All" or (
                rule.from_ == "Selector" and rule.selector.match_labels.items() <= labels.items()
            ):
                return True
        return False

    @staticmethod
    def _address(namespace: str, gateway: Gateway) -> GatewayAddress:
        addresses = gateway.status.addresses
        named = next((address for address in addresses if address.type == "Hostname"), None)
        if named is not None:
            return GatewayAddress(hostname=named.value, namespace=namespace, gateway=gateway.metadata.name)
        return GatewayAddress(ip=canonical_ip(addresses[0].value), namespace=namespace, gateway=gateway.metadata.name)
