"""Metrics of the ztunnel: its pods and its open sockets, under the names that Istio's dashboard asks for, and what its
policies decide."""

from typing import Any

from l4.telemetry.metrics import MeshMetrics, Metric, gauge
from l4.telemetry.samples import Merging
from l4.telemetry.verdicts import METRICS as AUTHORIZATION
from l4.xds.metrics import METRICS as XDS
from l4.ztunnel.pods import Pods
from l4.ztunnel.traffic import Traffic

ACTIVE_PODS = gauge("workload_manager_active_proxy_count", "Pods of the node that are served.", (), Merging.SUM)
PENDING_PODS = gauge(
    "workload_manager_pending_proxy_count",
    "Pods of the node that are not served yet, mostly because a certificate is missing.",
    (),
    Merging.SUM,
)
SOCKETS = gauge(
    "istio_tcp_sockets_open",
    "Accepted sockets: connections from pods (`source`), HBONE and plain connections to pods (`destination`).",
    ("reporter",),
    Merging.SUM,
)
METRICS: tuple[Metric[Any], ...] = (ACTIVE_PODS, PENDING_PODS, SOCKETS, *AUTHORIZATION, *XDS)


def ztunnel_metrics(tag: str) -> MeshMetrics:
    return MeshMetrics("ztunnel", tag, METRICS)


def show_counts(metrics: MeshMetrics, pods: Pods, traffic: Traffic) -> None:
    """Set the gauges to what is open now."""
    metrics.of(ACTIVE_PODS).labels(()).value = len(pods.proxies)
    metrics.of(PENDING_PODS).labels(()).value = len(pods.unserved)
    ends = [flow.ends for its in traffic.flows().values() for flow in its]
    plain = sum(it.direction == "inbound" and not it.is_mutual_tls for it in ends)
    tunnelled = sum(server.connection_count for proxy in pods.proxies.values() for server in proxy.servers)
    metrics.of(SOCKETS).labels(("source",)).value = sum(it.direction == "outbound" for it in ends)
    metrics.of(SOCKETS).labels(("destination",)).value = plain + tunnelled
