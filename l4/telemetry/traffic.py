"""Traffic as a graph: who called what, how often, how fast and with which result, since the program started.

The numbers are those of Istio's metrics, added up per caller, service, workload, protocol and kind of connection. Two
answers give rates. The console draws them; `curl` shows them as JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from l4.telemetry.metrics import TCP_LABELS
from l4.telemetry.samples import BUCKETS, HistogramCounts, MetricsSnapshot

_REQUESTS = "istio_requests"
_DURATION = "istio_request_duration_milliseconds"
_AMOUNTS = {
    "istio_tcp_connections_opened": "opened",
    "istio_tcp_connections_closed": "closed",
    "istio_tcp_received_bytes": "received",
    "istio_tcp_sent_bytes": "sent",
}
_FLAGS = "response_flags"


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
    for family in snapshot:
        if family.name not in (_REQUESTS, _DURATION, *_AMOUNTS):
            continue
        result_names = [it for it in family.label_names if it == _FLAGS or it not in TCP_LABELS]
        for values, sample in family.samples.items():
            labels = dict(zip(family.label_names, values, strict=True))
            edge = _edge(edges, labels)
            if isinstance(sample, HistogramCounts):
                known = edge.durations or [0] * len(sample.counts)
                edge.durations = [a + b for a, b in zip(known, sample.counts, strict=True)]
            elif family.name == _REQUESTS:
                result = " ".join(labels[name] or "-" for name in result_names)
                edge.results[result] = edge.results.get(result, 0) + sample
            else:
                amount = _AMOUNTS[family.name]
                setattr(edge, amount, getattr(edge, amount) + sample)
    return Traffic(seconds, tuple(map(float, BUCKETS)), tuple(edges.values()))


def _edge(edges: dict[tuple[str, ...], Edge], labels: Mapping[str, str]) -> Edge:
    source, destination = _party("source", labels), _party("destination", labels)
    rest = tuple(
        labels[name] for name in ("reporter", "destination_service", "request_protocol", "connection_security_policy")
    )
    reporter, service, protocol, security = rest
    key = (*_key(source), *_key(destination), *rest)
    edge = edges.get(key)
    if edge is None:
        edge = edges[key] = Edge(reporter, source, service, destination, protocol, security)
    return edge


def _key(party: Party) -> tuple[str, ...]:
    return party.namespace, party.workload, party.service, party.revision, party.principal


def _party(side: str, labels: Mapping[str, str]) -> Party:
    return Party(
        labels[f"{side}_workload_namespace"],
        labels[f"{side}_workload"],
        labels[f"{side}_canonical_service"],
        labels[f"{side}_canonical_revision"],
        labels[f"{side}_principal"],
    )
