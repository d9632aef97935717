"""The kinds that the controller reads and writes, as the API server names them."""

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
