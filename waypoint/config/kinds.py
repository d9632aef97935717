"""Kinds of objects that a waypoint reads. Others are counted and ignored."""

from collections.abc import Mapping

from l4.config.kinds import Group, Kind, Kinds
from l4.discovery import kubernetes
from waypoint.config.gateway_api.backend_traffic_policy import XBackendTrafficPolicy
from waypoint.config.gateway_api.grpc_route import GRPCRoute
from waypoint.config.gateway_api.http_route import HTTPRoute
from waypoint.config.gateway_api.l4_routes import TCPRoute, TLSRoute
from waypoint.config.gateway_api.reference_grant import ReferenceGrant
from waypoint.config.istio.destination_rule import DestinationRule
from waypoint.config.istio.envoy_only import EnvoyOnly
from waypoint.config.istio.mesh_config import ConfigMap
from waypoint.config.istio.request_authentication import RequestAuthentication
from waypoint.config.istio.telemetry import Telemetry
from waypoint.config.istio.virtual_service import VirtualService
from waypoint.config.ours.attached import ATTACHED, GROUP

_GATEWAY_API = "gateway.networking.k8s.io"
_EXPERIMENTAL = "gateway.networking.x-k8s.io"

_READ: Mapping[tuple[str, str], Kind] = {
    ("", "ConfigMap"): ConfigMap,
    (_GATEWAY_API, "HTTPRoute"): HTTPRoute,
    (_GATEWAY_API, "GRPCRoute"): GRPCRoute,
    (_GATEWAY_API, "TCPRoute"): TCPRoute,
    (_GATEWAY_API, "TLSRoute"): TLSRoute,
    (_GATEWAY_API, "ReferenceGrant"): ReferenceGrant,
    ("networking.istio.io", "DestinationRule"): DestinationRule,
    ("networking.istio.io", "VirtualService"): VirtualService,
    (_EXPERIMENTAL, "XBackendTrafficPolicy"): XBackendTrafficPolicy,
    **{(GROUP, it.name): it.schema for it in ATTACHED},
    ("security.istio.io", "RequestAuthentication"): RequestAuthentication,
    ("telemetry.istio.io", "Telemetry"): Telemetry,
    ("networking.istio.io", "EnvoyFilter"): EnvoyOnly,
    ("extensions.istio.io", "WasmPlugin"): EnvoyOnly,
    ("extensions.istio.io", "TrafficExtension"): EnvoyOnly,
}
_GROUPS = {
    "": Group(("v1",), fields={"ConfigMap": frozenset({"data", "binaryData", "immutable"})}),
    _GATEWAY_API: Group(
        ("v1", "v1beta1", "v1alpha2", "v1alpha3"),
        ("UDPRoute", "ListenerSet", "BackendTLSPolicy"),
        old=("ReferencePolicy", "BackendLBPolicy"),
    ),
    _EXPERIMENTAL: Group(("v1alpha1",), ("XListenerSet", "XMesh")),
    "networking.istio.io": Group(("v1", "v1beta1", "v1alpha3"), ("ProxyConfig", "Sidecar")),
    "extensions.istio.io": Group(("v1alpha1",)),
    "telemetry.istio.io": Group(("v1", "v1alpha1")),
    GROUP: Group(("v1alpha1",)),
}
KINDS = kubernetes.KINDS.joined(Kinds(_READ, _GROUPS))
_SENT = frozenset({("", "Endpoints"), ("", "Node"), ("discovery.k8s.io", "EndpointSlice")})
BESIDE_DISCOVERY = KINDS.reading({name: kind for name, kind in KINDS.items() if name not in _SENT})
"""Those that a waypoint reads if a discovery server sends the workloads."""
