"""The kinds that the controller reads and writes, as the API server names them."""

from collections.abc import Mapping

from l4.kubernetes.client import ResourceType

GATEWAY_CLASSES = ResourceType("gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", is_namespaced=False)
GATEWAYS = ResourceType("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
CONFIG_MAPS = ResourceType("", "v1", "configmaps", "ConfigMap")
ROLE_BINDINGS = ResourceType(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", is_namespaced=False
)

SERVICE_ACCOUNTS = ResourceType("", "v1", "serviceaccounts", "ServiceAccount")
SERVICES = ResourceType("", "v1", "services", "Service")
DEPLOYMENTS = ResourceType("apps", "v1", "deployments", "Deployment")
AUTOSCALERS = ResourceType("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGETS = ResourceType("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")

OWNED = {it.kind: it for it in (SERVICE_ACCOUNTS, SERVICES, DEPLOYMENTS, AUTOSCALERS, DISRUPTION_BUDGETS)}
"""The kinds of a waypoint's objects. Each object has the Gateway's name."""

GATEWAY_API, SECURITY, OURS = "gateway.networking.k8s.io", "security.istio.io", "pywaypoint.dev"
TOLD: Mapping[tuple[str, str], str] = {
    ("", "Service"): "services",
    (GATEWAY_API, "HTTPRoute"): "httproutes",
    (GATEWAY_API, "GRPCRoute"): "grpcroutes",
    (GATEWAY_API, "TCPRoute"): "tcproutes",
    (GATEWAY_API, "TLSRoute"): "tlsroutes",
    ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy"): "xbackendtrafficpolicies",
    (OURS, "RateLimitPolicy"): "ratelimitpolicies",
    (OURS, "FaultPolicy"): "faultpolicies",
    (SECURITY, "AuthorizationPolicy"): "authorizationpolicies",
    (SECURITY, "RequestAuthentication"): "requestauthentications",
    ("networking.istio.io", "EnvoyFilter"): "envoyfilters",
    ("extensions.istio.io", "WasmPlugin"): "wasmplugins",
    ("extensions.istio.io", "TrafficExtension"): "trafficextensions",
}
"""Group and kind of the objects whose status says what became of them at the waypoints, with their names in paths."""


def told_resource(group: str, version: str, kind: str) -> ResourceType:
    """Raises KeyError for a kind that is not told."""
    return ResourceType(group, version, TOLD[group, kind], kind)
