"""The metrics of a waypoint: one list of the metrics that its features declare.

See `l4.telemetry.metrics` for how to declare a metric. Declare a new metric in the module of its feature and list it
here; a filter lists its metrics in its own `metrics`.
"""

from typing import Any

from l4.telemetry.metrics import METRICS as COMMON
from l4.telemetry.metrics import MeshMetrics, Metric
from l4.telemetry.verdicts import METRICS as AUTHORIZATION
from waypoint.filters import live as filters
from waypoint.replica import LIMITS_OF_EACH_WORKER, WORKER_SILENT
from waypoint.telemetry.buckets import HistogramSettings
from waypoint.telemetry.dropped_spans import SPANS_DROPPED
from waypoint.telemetry.exchanges import (
    ACTIVE_CONNECTIONS,
    ACTIVE_REQUESTS,
    REQUEST_BYTES,
    REQUEST_DURATION,
    REQUEST_MESSAGES,
    REQUESTS,
    RESPONSE_BYTES,
    RESPONSE_MESSAGES,
)
from waypoint.upstream.events import CLUSTER_EVENTS
from waypoint.upstream.state import CLUSTER_STATE

COMPONENT = "proxy"
"""The component label of a waypoint in Istio's metrics."""
METRICS: tuple[Metric[Any], ...] = (
    REQUESTS,
    REQUEST_DURATION,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    REQUEST_MESSAGES,
    RESPONSE_MESSAGES,
    ACTIVE_REQUESTS,
    ACTIVE_CONNECTIONS,
    *AUTHORIZATION,
    SPANS_DROPPED,
    *filters.METRICS,
    CLUSTER_EVENTS,
    CLUSTER_STATE,
    LIMITS_OF_EACH_WORKER,
    WORKER_SILENT,
)


EXPIRING = frozenset(it.name for it in (*COMMON, *METRICS) if it.expires)
"""Names of the metrics whose series expire."""


def waypoint_metrics(tag: str, histograms: HistogramSettings | None = None) -> MeshMetrics:
    """Return the metric families of one worker of a waypoint. `tag` is its version."""
    return MeshMetrics(COMPONENT, tag, METRICS, buckets=(histograms or HistogramSettings()).buckets)
