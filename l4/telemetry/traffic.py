"""Traffic as a graph: who called what, how often, how fast and with which result, since the program started.

The numbers are those of Istio's metrics, added up per caller, service, workload, protocol and kind of connection. Two
answers give rates. The console draws them; `curl` shows them as JSON.
"""

from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter

from l4.telemetry.metrics import TCP_LABELS
from l4.telemetry.samples import BUCKETS, FamilySnapshot, HistogramCounts, MetricsSnapshot

_REQUESTS = "istio_requests"
_DURATION = "istio_request_duration_milliseconds"
_AMOUNTS = {
    "istio_tcp_connections_opened": "opened",
    "istio_tcp_connections_closed": "closed",
    "istio_tcp_received_bytes": "received",
    "istio_tcp_sent_bytes": "sent",
}
_FLAGS = "response_flags"
_PARTY = ("workload_namespace", "workload", "canonical_service", "canonical_revision", "principal")
_WHO = (
    *("reporter", "destination_service", "request_protocol", "connection_security_policy"),
    *(f"{side}_{name}" for side in ("source", "destination") for name in _PARTY),
)
"""The labels by which numbers are added up."""


@dataclass(frozen=True, slots=True)
class Party:
    """A workload that calls or is called."""

    namespace: str
    workload: str
    service: str
    revision: str
    principal: str


@dataclass(slots=True)
class Edge:
    """Traffic of one kind from `source` through `service` to `destination`.

    `results` are counts by what the metric of requests tells besides, response codes and flags. `durations` has a count
    for each of `Traffic.buckets`, and one for longer requests. `received` and `sent` are bytes of TCP connections.
    """

    reporter: str
    source: Party
    service: str
    destination: Party
    protocol: str
    security: str
    results: dict[str, int] = field(default_factory=dict)
    durations: list[int] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    received: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """`seconds` is a clock that starts anywhere, to compute rates with."""

    seconds: float
    buckets: tuple[float, ...]
    edges: tuple[Edge, ...]


def traffic(snapshot: MetricsSnapshot, seconds: float) -> Traffic:
    """Return the traffic that the metrics count."""
    edges: dict[tuple[str, ...], Edge] = {}
    buckets = next((it.buckets for it in snapshot if it.name == _DURATION), BUCKETS)
    for family in snapshot:
        if family.name in (_REQUESTS, _DURATION, *_AMOUNTS):
            _add(edges, family)
    return Traffic(seconds, tuple(map(float, buckets)), tuple(edges.values()))


def _add(edges: dict[tuple[str, ...], Edge], family: FamilySnapshot) -> None:
    names = family.label_names
    who = itemgetter(*(names.index(name) for name in _WHO))
    result_indexes = [names.index(name) for name in names if name == _FLAGS or name not in TCP_LABELS]
    for values, sample in family.samples.items():
        key = who(values)
        edge = edges.get(key)
        if edge is None:
            edge = edges[key] = _edge(key)
        if isinstance(sample, HistogramCounts):
            counts = sample.counts
            edge.durations = [a + b for a, b in zip(edge.durations or repeat(0), counts, strict=False)]
        elif family.name == _REQUESTS:
            result = " ".join([values[index] or "-" for index in result_indexes])
            edge.results[result] = edge.results.get(result, 0) + sample
        else:
            amount = _AMOUNTS[family.name]
            setattr(edge, amount, getattr(edge, amount) + sample)


def _edge(key: tuple[str, ...]) -> Edge:
    reporter, service, protocol, security, *parties = key
    return Edge(reporter, Party(*parties[:5]), service, Party(*parties[5:]), protocol, security)
