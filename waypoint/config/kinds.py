"""The kinds of objects that a waypoint reads; all others are counted and left alone."""

from l4.config.resources import Kinds
from l4.discovery import kubernetes
from waypoint.config.backend_traffic_policy import XBackendTrafficPolicy
from waypoint.config.fault_policy import FaultPolicy
from waypoint.config.grpc_route import GRPCRoute
from waypoint.config.http_route import HTTPRoute
from waypoint.config.istio import DestinationRule
from waypoint.config.l4_routes import TCPRoute, TLSRoute
from waypoint.config.mesh_config import ConfigMap
from waypoint.config.rate_limit_policy import RateLimitPolicy
from waypoint.config.reference_grant import ReferenceGrant
from waypoint.config.request_authentication import RequestAuthentication
from waypoint.config.virtual_service import VirtualService

_GATEWAY_API = "gateway.networking.k8s.io"
_EXPERIMENTAL = "gateway.networking.x-k8s.io"
_OWN = "pywaypoint.dev"

KINDS: Kinds = {
    **kubernetes.KINDS,
    ("", "ConfigMap"): ConfigMap,
    (_GATEWAY_API, "HTTPRoute"): HTTPRoute,
    (_GATEWAY_API, "GRPCRoute"): GRPCRoute,
    (_GATEWAY_API, "TCPRoute"): TCPRoute,
    (_GATEWAY_API, "TLSRoute"): TLSRoute,
    (_GATEWAY_API, "ReferenceGrant"): ReferenceGrant,
    ("networking.istio.io", "DestinationRule"): DestinationRule,
    ("networking.istio.io", "VirtualService"): VirtualService,
    (_EXPERIMENTAL, "XBackendTrafficPolicy"): XBackendTrafficPolicy,
    (_OWN, "FaultPolicy"): FaultPolicy,
    (_OWN, "RateLimitPolicy"): RateLimitPolicy,
    ("security.istio.io", "RequestAuthentication"): RequestAuthentication,
}
