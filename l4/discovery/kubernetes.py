"""Build the registry from Kubernetes objects: workloads, services, and the waypoints in front of them.

Pure. Labels and annotations have the same meaning as in Istio ambient. As in istiod, an object that cannot be bound to
a waypoint stays unbound; a problem reports it.
"""

from l4.config.resources import Kinds, Resources
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.index import Index, Update
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
from l4.discovery.registry import Moved, Registry
from l4.discovery.service_entry import ServiceEntry, WorkloadEntry

__all__ = ["KINDS", "Gateway", "Index", "Mesh", "Moved", "Update", "app_protocol", "registry_of"]

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


def registry_of(resources: Resources, mesh: Mesh) -> Registry:
    """Build the registry from all objects."""
    return Index(resources, mesh).registry
