"""The parts of Kubernetes objects that the laptop mesh uses: programs, names, service accounts.

Everything else in a manifest (routes, policies, probes, volumes) is ignored here; the ztunnel and the waypoints read
the same files themselves.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated

from msgspec import Meta, Struct, field

from waypoint.config import kinds

Port = Annotated[int, Meta(ge=1, le=65535)]


class OwnerReference(Struct, frozen=True, rename="camel"):
    kind: str
    name: str


class Metadata(Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


class TemplateMetadata(Struct, frozen=True, rename="camel"):
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


class FieldRef(Struct, frozen=True, rename="camel"):
    field_path: str


class ValueFrom(Struct, frozen=True, rename="camel"):
    field_ref: FieldRef | None = None


class Variable(Struct, frozen=True, rename="camel"):
    name: str
    value: str = ""
    value_from: ValueFrom | None = None

    def __post_init__(self) -> None:
        if not self.name or "=" in self.name or "\0" in self.name + self.value:
            raise ValueError(
                f"{self.name!r} is not a valid variable: its name must not contain '=', and name and value no zero byte"
            )

    @property
    def field(self) -> str:
        """Path of the pod field that provides the value, or empty."""
        ref = self.value_from and self.value_from.field_ref
        return ref.field_path if ref else ""


class ContainerPort(Struct, frozen=True, rename="camel"):
    container_port: Port
    name: str = ""
    protocol: str = "TCP"


class Container(Struct, frozen=True, rename="camel"):
    name: str
    image: str
    env: tuple[Variable, ...] = ()
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(Struct, frozen=True, rename="camel"):
    containers: Annotated[tuple[Container, ...], Meta(min_length=1)]
    service_account_name: str = "default"


class PodTemplate(Struct, frozen=True, rename="camel"):
    spec: PodSpec
    metadata: TemplateMetadata = field(default_factory=TemplateMetadata)


class PodSetSpec(Struct, frozen=True, rename="camel"):
    template: PodTemplate
    replicas: Annotated[int, Meta(ge=0)] = 1


class PodSet(Struct, frozen=True, rename="camel"):
    """A Deployment, StatefulSet, ReplicaSet or DaemonSet. A DaemonSet has no `replicas`, and one node here."""

    metadata: Metadata
    spec: PodSetSpec

    @property
    def pod_names(self) -> list[str]:
        return [f"{self.metadata.name}-{index}" for index in range(self.spec.replicas)]

    @property
    def template(self) -> PodTemplate:
        return self.spec.template


class BarePod(Struct, frozen=True, rename="camel"):
    """A Pod in the manifests. Pods with an owner are ignored."""

    metadata: Metadata
    spec: PodSpec

    @property
    def pod_names(self) -> list[str]:
        return [self.metadata.name]

    @property
    def template(self) -> PodTemplate:
        return PodTemplate(self.spec, TemplateMetadata(self.metadata.labels, self.metadata.annotations))


PodSource = PodSet | BarePod
"""An object that pods come from."""


class ServicePort(Struct, frozen=True, rename="camel"):
    port: Port
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str = ""

    @property
    def target(self) -> int | str:
        """A container port, by number or name."""
        return self.target_port or self.port


class ServiceSpec(Struct, frozen=True, rename="camel"):
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = field(default_factory=dict)
    cluster_ip: str = field(default="", name="clusterIP")
    type: str = "ClusterIP"

    def __post_init__(self) -> None:
        if self.cluster_ip not in {"", "None"}:
            ip_address(self.cluster_ip)


class Service(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    spec: ServiceSpec = field(default_factory=ServiceSpec)

    @property
    def has_address(self) -> bool:
        """Headless Services and external names have no address."""
        return self.spec.cluster_ip != "None" and self.spec.type != "ExternalName"

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        selector = self.spec.selector
        return bool(selector) and self.metadata.namespace == namespace and selector.items() <= labels.items()


class GatewaySpec(Struct, frozen=True, rename="camel"):
    gateway_class_name: str


class Gateway(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    spec: GatewaySpec


KINDS = kinds.KINDS.reading(
    {
        ("apps", "Deployment"): PodSet,
        ("apps", "StatefulSet"): PodSet,
        ("apps", "ReplicaSet"): PodSet,
        ("apps", "DaemonSet"): PodSet,
        ("", "Pod"): BarePod,
        ("", "Service"): Service,
        ("gateway.networking.k8s.io", "Gateway"): Gateway,
    }
)
