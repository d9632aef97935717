"""The metrics of a waypoint: one list of what its features declare, each beside the feature that counts it.

`l4.telemetry.metrics` says how a metric is declared. A new one is declared in the module of its feature, and named
here; a filter's is named in the filter's `metrics`, and is listed with it.
"""

from typing import Any

from l4.telemetry.metrics import MeshMetrics, Metric
from waypoint.filters import live as filters
from waypoint.telemetry.exchanges import (
    AUTHORIZATION_DENIED,
    AUTHORIZATION_DRY_RUN,
    REQUEST_BYTES,
    REQUEST_DURATION,
    REQUESTS,
    RESPONSE_BYTES,
)
from waypoint.upstream.events import CLUSTER_EVENTS
from waypoint.upstream.state import CLUSTER_STATE

COMPONENT = "proxy"
"""What Istio calls a waypoint in its metrics."""
METRICS: tuple[Metric[Any], ...] = (
    REQUESTS,
    REQUEST_DURATION,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    AUTHORIZATION_DENIED,
    AUTHORIZATION_DRY_RUN,
    *filters.METRICS,
    CLUSTER_EVENTS,
    CLUSTER_STATE,
)


def waypoint_metrics(tag: str) -> MeshMetrics:
    """The families of one worker of a waypoint, whose version is `tag`."""
    return MeshMetrics(COMPONENT, tag, METRICS)
