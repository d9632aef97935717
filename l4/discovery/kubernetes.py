"""The Kubernetes objects that the mesh is discovered from. Objects of kinds that are not among them are ignored."""

from collections.abc import Mapping

from l4.config.kinds import Group, Kind, Kinds
from l4.discovery.authorization_policy import AuthorizationPolicy
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
from l4.discovery.service_entry import ServiceEntry, WorkloadEntry

_READ: Mapping[tuple[str, str], Kind] = {
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
_GROUPS = {
    "": Group(
        ("v1",),
        (
            *("Binding", "ComponentStatus", "ConfigMap", "Event", "LimitRange", "PersistentVolume"),
            *("PersistentVolumeClaim", "PodTemplate", "ReplicationController", "ResourceQuota", "Secret"),
            "ServiceAccount",
        ),
        fields={"Endpoints": frozenset({"subsets"})},
    ),
    "discovery.k8s.io": Group(
        ("v1", "v1beta1"), fields={"EndpointSlice": frozenset({"addressType", "endpoints", "ports"})}
    ),
    "gateway.networking.k8s.io": Group(("v1", "v1beta1", "v1alpha2", "v1alpha3"), is_whole=False),
    "networking.istio.io": Group(("v1", "v1beta1", "v1alpha3"), ("Gateway", "WorkloadGroup"), is_whole=False),
}
KINDS = Kinds(_READ, _GROUPS)
