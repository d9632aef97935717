"""Events of clusters, counted under Envoy's names."""

from collections.abc import Callable
from enum import StrEnum

from l4.telemetry.metrics import MeshMetrics, counter
from policies.attributes import ClusterName
from policies.verdict import ResponseFlag

CLUSTER_EVENTS = counter(
    "pywaypoint_cluster_events",
    "Events of a destination (retries, ejections, overflows), named as in Envoy.",
    ("event", "cluster_name"),
)


class ClusterEvent(StrEnum):
    """Envoy's counters of a cluster, with their names."""

    RETRY = "upstream_rq_retry"
    BACKOFF_EXPONENTIAL = "upstream_rq_retry_backoff_exponential"
    BACKOFF_RATELIMITED = "upstream_rq_retry_backoff_ratelimited"
    SUCCESS = "upstream_rq_retry_success"
    LIMIT_EXCEEDED = "upstream_rq_retry_limit_exceeded"
    OVERFLOW = "upstream_rq_retry_overflow"
    PER_TRY_TIMEOUT = "upstream_rq_per_try_timeout"
    REQUEST_OVERFLOW = "upstream_rq_pending_overflow"
    CONNECTION_OVERFLOW = "upstream_cx_overflow"
    EJECTED = "outlier_detection.ejections_enforced_total"
    EJECTION_OVERFLOW = "outlier_detection.ejections_overflow"
    RETURNED = "outlier_detection.returned"


FLAGS = {
    ClusterEvent.LIMIT_EXCEEDED: ResponseFlag.UPSTREAM_RETRY_LIMIT_EXCEEDED,
    ClusterEvent.OVERFLOW: ResponseFlag.UPSTREAM_OVERFLOW,
}
"""The response flag of an event that ended an exchange's retries."""

Note = Callable[[ClusterEvent, ClusterName], None]


def counted_in(metrics: MeshMetrics) -> Note:
    """Return a function that counts events in these metrics."""
    family = metrics.of(CLUSTER_EVENTS)
    return lambda event, cluster: family.labels((event, cluster)).add()
