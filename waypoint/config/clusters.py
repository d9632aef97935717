"""Services → clusters: one for each port of a service to which a request may go."""

from collections.abc import Iterator
from dataclasses import replace

from l4.discovery.workload import AppProtocol, Service, ServicePort, TunnelProtocol, Workload
from policies.attributes import ClusterName
from policies.balancing.endpoint import Endpoint
from waypoint.config.destination_rule import DestinationRules
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig, ServiceLabels

_HTTP2 = frozenset({AppProtocol.HTTP2, AppProtocol.GRPC, AppProtocol.GRPC_WEB})
_OPAQUE = frozenset({AppProtocol.TCP, AppProtocol.TLS})


class ClusterConfigs:
    """Makes the cluster of a service's port when it is first asked for. `gateway` is (namespace, name) of ours."""

    def __init__(self, gateway: tuple[str, str], rules: DestinationRules) -> None:
        self.by_name: dict[ClusterName, ClusterConfig] = {}
        self._gateway = gateway
        self._rules = rules

    def is_ours(self, bound: Service | Workload) -> bool:
        """Whether the service, or the workload's own address, is bound to this waypoint."""
        waypoint = bound.waypoint
        return waypoint is not None and (waypoint.namespace, waypoint.gateway) == self._gateway

    def of(self, service: Service, port: ServicePort) -> ClusterName:
        """The name that istiod gives Envoy's cluster."""
        if self.is_ours(service):
            kind = "tcp" if port.app_protocol in _OPAQUE else "http"
            name = ClusterName(f"inbound-vip|{port.port}|{kind}|{service.hostname}")
        else:
            name = ClusterName(f"outbound|{port.port}||{service.hostname}")
        if name not in self.by_name:
            tls = self._rules.tls(service, port, is_http2=port.app_protocol in _HTTP2)
            self.by_name[name] = ClusterConfig(
                name=name,
                service=ServiceLabels(service.hostname, service.name, service.namespace),
                port=port.port,
                app_protocol=port.app_protocol,
                endpoints=tuple(replace(it, tls=tls) if tls else it for it in _endpoints(service, port.port)),
                names=tuple(named for named in service.names if port.port in named.ports),
                tls=tls,
            )
        return name

    def direct(self, workload: Workload, port: int) -> ClusterName:
        """A workload that was called by its own address, and is healthy or not: nobody else can stand in for it."""
        name = ClusterName(f"direct|{port}||{workload.addresses[0]}")
        if name not in self.by_name:
            self.by_name[name] = ClusterConfig(
                name=name,
                service=UNKNOWN_SERVICE,
                port=port,
                app_protocol=AppProtocol.UNKNOWN,
                endpoints=(_endpoint(workload, port),),
            )
        return name


def _endpoints(service: Service, port: int) -> Iterator[Endpoint]:
    """The service's healthy endpoints, in the order of their addresses."""
    for it in sorted(service.endpoints, key=lambda it: it.workload.addresses):
        workload = it.workload
        if workload.is_healthy and workload.addresses and port in it.ports:
            yield _endpoint(workload, it.ports[port])


def _endpoint(workload: Workload, port: int) -> Endpoint:
    is_hbone = workload.tunnel_protocol is TunnelProtocol.HBONE
    return Endpoint(
        ip=workload.addresses[0],
        port=port,
        identity=workload.identity if is_hbone else None,
        workload=workload.metric_labels,
        weight=workload.capacity,
    )
