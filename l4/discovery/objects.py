"""Kubernetes objects used for discovery: the fields that the mesh reads, validated when they are built.

Unknown fields are ignored. Names and defaults are the API's.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from l4.discovery.label_names import REGION, SUBZONE, ZONE

PortNumber = Annotated[int, Meta(ge=1, le=65535)]
ROOT_NAMESPACE = "istio-system"
"""Namespace of mesh-wide configuration."""


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_is_ipv4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}").fullmatch
"""Matches IPv4 addresses, which have only one spelling. Ten times as fast as `ipaddress`."""


def canonical_ip(text: str) -> str:
    """Return the canonical text of an address. IPv4-mapped IPv6 becomes IPv4."""
    if _is_ipv4(text):
        return text
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_ip(text: str) -> bool:
    if _is_ipv4(text):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_ip(text: str) -> None:
    if not is_ip(text):
        raise ValueError(f"{text!r} is not an IP address")


class Metadata(Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner_references: tuple["OwnerReference", ...] = ()
    deletion_timestamp: str | None = None
    creation_timestamp: str = ""
    generation: int = 0


class OwnerReference(Struct, frozen=True, rename="camel"):
    kind: str
    name: str
    controller: bool | None = None


class NamespaceObject(Struct, frozen=True, rename="camel"):
    metadata: Metadata


class NodeObject(Struct, frozen=True):
    metadata: Metadata

    @property
    def locality(self) -> str:
        """`region/zone/subzone`, or the parts that its labels give."""
        return "/".join(self.metadata.labels.get(name, "") for name in (REGION, ZONE, SUBZONE)).rstrip("/")


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
    def is_over(self) -> bool:
        """Whether the pod has ended for good, so that its address may belong to another pod."""
        return self.status.phase in {"Succeeded", "Failed"}

    @property
    def is_healthy(self) -> bool:
        """Ready and not terminating."""
        return self._is_ready and not self.metadata.deletion_timestamp

    @property
    def is_leaving(self) -> bool:
        """Terminating, but still ready."""
        return self._is_ready and bool(self.metadata.deletion_timestamp)

    @property
    def _is_ready(self) -> bool:
        """A hand-written pod without conditions counts as ready."""
        ready = [condition.status for condition in self.status.conditions if condition.type == "Ready"]
        return self.status.phase == "Running" and (not ready or ready[0] == "True")

    @property
    def port_names(self) -> dict[str, int]:
        """Of two ports with one name, the first counts."""
        ports = [port for container in self.spec.containers for port in container.ports if port.name]
        return {port.name: port.container_port for port in reversed(ports)}


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
    traffic_distribution: str = ""
    internal_traffic_policy: str = "Cluster"
    external_name: str = ""
    publish_not_ready_addresses: bool = False

    def __post_init__(self) -> None:
        for address in {self.cluster_ip, *self.cluster_ips} - {"", "None"}:
            _check_ip(address)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Empty for a headless service."""
        texts = (self.cluster_ip, *self.cluster_ips)
        return tuple(dict.fromkeys(canonical_ip(text) for text in texts if text not in {"", "None"}))


class ServiceObject(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


class EndpointConditions(Struct, frozen=True):
    """`serving` is readiness regardless of termination. If unset, it equals `ready`."""

    ready: bool = True
    serving: bool | None = None
    terminating: bool = False


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


class EndpointAddress(Struct, frozen=True, rename="camel"):
    ip: str
    node_name: str = ""
    target_ref: TargetRef | None = None

    def __post_init__(self) -> None:
        _check_ip(self.ip)


class EndpointSubset(Struct, frozen=True, rename="camel"):
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[SlicePort, ...] = ()


class Endpoints(Struct, frozen=True):
    """The older API for endpoints of a Service without a selector. A cluster mirrors it into EndpointSlices."""

    metadata: Metadata
    subsets: tuple[EndpointSubset, ...] = ()


class GatewayStatusAddress(Struct, frozen=True):
    value: str
    type: str = "IPAddress"

    def __post_init__(self) -> None:
        if self.type == "IPAddress":
            _check_ip(self.value)


class GatewayStatus(Struct, frozen=True):
    addresses: tuple[GatewayStatusAddress, ...] = ()


class Requirement(Struct, frozen=True):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """All requirements must hold. An empty selector matches everything."""
        return self.match_labels.items() <= labels.items() and all(it.holds(labels) for it in self.match_expressions)


class RouteNamespaces(Struct, frozen=True, rename="camel"):
    from_: Literal["All", "Same", "Selector", "None"] = field(default="Same", name="from")
    selector: LabelSelector | None = None

    def allow(self, labels: Mapping[str, str]) -> bool:
        """Whether objects of another namespace, which has these labels, may attach."""
        is_selected = self.selector is not None and self.selector.selects(labels)
        return self.from_ == "All" or (self.from_ == "Selector" and is_selected)


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


class GatewayClassSpec(Struct, frozen=True, rename="camel"):
    controller_name: str = ""


class GatewayClass(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    spec: GatewayClassSpec = GatewayClassSpec()


def is_port(text: str) -> bool:
    """Whether the text is a port number in ASCII digits."""
    return text.isascii() and text.isdecimal() and 0 < int(text) < 65536
