"""The enumerations of `istio.workload` and what they are here."""

from l4._proto import workload_pb2 as wire
from l4.discovery.workload import AppProtocol, Scope, TunnelProtocol

TUNNELS = {wire.TunnelProtocol.NONE: TunnelProtocol.NONE, wire.TunnelProtocol.HBONE: TunnelProtocol.HBONE}
TYPES = {wire.DEPLOYMENT: "deployment", wire.CRONJOB: "cronjob", wire.POD: "pod", wire.JOB: "job"}
PROTOCOLS = {
    wire.UNKNOWN: AppProtocol.UNKNOWN,
    wire.HTTP11: AppProtocol.HTTP,
    wire.HTTP2: AppProtocol.HTTP2,
    wire.GRPC: AppProtocol.GRPC,
    wire.TCP: AppProtocol.TCP,
    wire.TLS: AppProtocol.TLS,
}
SCOPES = {
    wire.LoadBalancing.REGION: Scope.REGION,
    wire.LoadBalancing.ZONE: Scope.ZONE,
    wire.LoadBalancing.SUBZONE: Scope.SUBZONE,
    wire.LoadBalancing.NODE: Scope.NODE,
    wire.LoadBalancing.CLUSTER: Scope.CLUSTER,
    wire.LoadBalancing.NETWORK: Scope.NETWORK,
}
DISTRIBUTIONS = {
    (Scope.NETWORK, Scope.REGION, Scope.ZONE): "PreferSameZone",
    (Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE): "PreferSameNode",
}
"""The preferences that istiod makes of a traffic distribution."""
