"""Names of labels and annotations that more than one module uses: Kubernetes', Istio's and ours.

A name that only one module uses is defined in that module.
"""

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""On pods of a Gateway: its name."""
MANAGED = "gateway.istio.io/managed"
USE_WAYPOINT = "istio.io/use-waypoint"
USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace"
USE_WAYPOINT_CANARY = "istio.io/use-waypoint-canary"
USE_WAYPOINT_CANARY_NAMESPACE = "istio.io/use-waypoint-canary-namespace"
WAYPOINT_FOR = "istio.io/waypoint-for"
DATAPLANE_MODE = "istio.io/dataplane-mode"
REDIRECTION = "ambient.istio.io/redirection"
XFCC_INCLUDES_CLIENT = "ambient.istio.io/xfcc-include-client-identity"
"""On a waypoint's Gateway or pods."""
TUNNEL = "networking.istio.io/tunnel"
TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution"
CANONICAL_NAME = "service.istio.io/canonical-name"
CANONICAL_REVISION = "service.istio.io/canonical-revision"

NETWORK = "topology.istio.io/network"
REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"
SUBZONE = "topology.istio.io/subzone"
HOSTNAME = "kubernetes.io/hostname"

OUTBOUND_CAPTURE = "pywaypoint.dev/outbound-capture"
INBOUND_CAPTURE = "pywaypoint.dev/inbound-capture"
