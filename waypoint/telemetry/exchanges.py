"""Report an exchange when it is over: metrics, an access log line, and its span.

An exchange fills an `ExchangeRecord` and passes it to `Telemetry.record` exactly once, however it ends. This runs on
every request, so that everything constant (label sets, the upstream's name) is computed once per combination of source,
endpoint, service and response, and cached.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from l4.telemetry.access_log import AccessLog
from l4.telemetry.metrics import (
    CONNECTIONS_CLOSED,
    CONNECTIONS_OPENED,
    DESTINATION_LABELS,
    RECEIVED_BYTES,
    SENT_BYTES,
    SOURCE_LABELS,
    Child,
    Histogram,
    MeshMetrics,
    Metric,
    NamedService,
    Value,
    counter,
    gauge,
    histogram,
    mesh_values,
)
from l4.telemetry.samples import Merging
from l4.telemetry.source import SourceLabels
from l4.telemetry.verdicts import Verdicts
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, Endpoint, WorkloadLabels
from policies.telemetry import TelemetryPolicy
from policies.verdict import ResponseFlag
from waypoint.telemetry.access_line import upstream_of
from waypoint.telemetry.exchange_log import ExchangeLog
from waypoint.telemetry.log_settings import AccessLogSettings
from waypoint.telemetry.messages import Messages
from waypoint.telemetry.record import ExchangeRecord, flags_text, grpc_code
from waypoint.telemetry.span_tags import span_attributes, span_name

REPORTER = "waypoint"
MUTUAL_TLS = "mutual_tls"
MAX_BOUND_SERIES = 4096

REQUEST_LABELS = (
    "reporter",
    *SOURCE_LABELS,
    *DESTINATION_LABELS,
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)
REQUESTS = counter(
    "istio_requests", "Requests with an answer, from the endpoint or the proxy.", REQUEST_LABELS, expires=True
)
REQUEST_DURATION = histogram(
    "istio_request_duration_milliseconds",
    "Time from a request's first byte to its response's last byte, in milliseconds.",
    REQUEST_LABELS,
    expires=True,
)
REQUEST_BYTES = histogram(
    "istio_request_bytes", "Size of requests with their heads, in bytes.", REQUEST_LABELS, expires=True
)
RESPONSE_BYTES = histogram(
    "istio_response_bytes", "Size of responses with their heads, in bytes.", REQUEST_LABELS, expires=True
)
_OF_REQUESTS = frozenset(it.name for it in (REQUESTS, REQUEST_DURATION, REQUEST_BYTES, RESPONSE_BYTES))
MESSAGE_LABELS = ("reporter", *SOURCE_LABELS, *DESTINATION_LABELS)
REQUEST_MESSAGES = counter("istio_request_messages", "gRPC messages from clients.", MESSAGE_LABELS, expires=True)
RESPONSE_MESSAGES = counter("istio_response_messages", "gRPC messages to clients.", MESSAGE_LABELS, expires=True)
_OF_MESSAGES = frozenset({REQUEST_MESSAGES.name, RESPONSE_MESSAGES.name})
ACTIVE_REQUESTS = gauge("pywaypoint_requests_active", "Requests without a complete answer yet.", (), Merging.SUM)
ACTIVE_CONNECTIONS = gauge("pywaypoint_connections_active", "Open connections of clients.", (), Merging.SUM)


Watcher = Callable[[ExchangeRecord], None]


@dataclass(frozen=True, slots=True)
class TcpSeries:
    """The counters of one TCP connection: `received` from the client, `sent` to it."""

    opened: Value
    closed: Value
    received: Value
    sent: Value


@dataclass(slots=True)
class _BoundSeries:
    """The metric children that one kind of response updates. `owners` keeps the objects alive whose ids are the cache
    key."""

    requests: Value
    duration: Histogram
    request_bytes: Histogram
    response_bytes: Histogram
    flags: str
    upstream: tuple[str, str]
    owners: tuple[WorkloadLabels, Endpoint | None, NamedService, TelemetryPolicy[ExchangeRecord] | None]


@dataclass(slots=True)
class _BoundMessages:
    """As `_BoundSeries`, for a gRPC request's messages."""

    request: Value
    response: Value
    owners: tuple[WorkloadLabels, Endpoint | None, NamedService]


_BoundKey = tuple[int, int, int, int, tuple[ResponseFlag, ...], str, bool]


class Telemetry:
    """Reports exchanges. `access_log` is None if no access log is wanted; `sources` finds a caller's labels.

    Raises InvalidFormat if the settings have an access log format that cannot be understood.
    """

    __slots__ = (
        "_access_log",
        "_bound",
        "_bound_by_policy",
        "_bound_messages",
        "_metrics",
        "_verdicts",
        "_watchers",
        "sources",
    )

    def __init__(
        self, metrics: MeshMetrics, access_log: AccessLog | None, settings: AccessLogSettings | None = None
    ) -> None:
        self.sources = SourceLabels()
        self._metrics = metrics
        self._access_log: ExchangeLog | None = None
        if access_log is not None:
            self._access_log = ExchangeLog(access_log, settings or AccessLogSettings())
        self._verdicts = Verdicts(metrics)
        self._bound: dict[_BoundKey, _BoundSeries] = {}
        self._bound_messages: dict[tuple[int, int, int], _BoundMessages] = {}
        self._bound_by_policy: dict[tuple[_BoundKey, int, tuple[str, ...]], _BoundSeries] = {}
        self._watchers: tuple[Watcher, ...] | None = None  # None, because nearly always nobody looks

    @contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` with each exchange or connection that has ended."""
        self._watchers = (*(self._watchers or ()), watcher)
        try:
            yield
        finally:
            self._watchers = tuple(it for it in self._watchers if it is not watcher) or None

    def record(self, record: ExchangeRecord) -> None:
        """Report an exchange that has ended; call it exactly once."""
        series = self._series(record)
        if series is not None:
            series.requests.value += 1
            series.duration.observe(record.duration_ms)
            if record.span is not None:
                series.duration.exemplify(record.duration_ms, record.span.exemplar, record.started_at)
            series.request_bytes.observe_size(record.request_bytes)
            series.response_bytes.observe_size(record.response_bytes)
        if record.messages is not None and record.messages.is_pending:
            self.count_messages(record, record.messages)
        if record.verdict is not None:
            self._verdicts.count(record.verdict, record.source, record.service)
        if self._access_log is not None:
            if series is not None:
                self._access_log.write(record, series.flags, series.upstream)
            else:
                self._access_log.write(record, flags_text(record.flags), upstream_of(record.endpoint))
        if record.span is not None:
            end_ns = int(record.started_at * 1e9 + record.duration_ms * 1e6)
            is_error = record.status >= 500 or not record.status
            record.span.end(span_name(record), span_attributes(record), is_error, end_ns)
        if self._watchers is not None:
            self._show(record, self._watchers)

    def forget_bound(self) -> None:
        """Look series up again, so that those of workloads that are gone can expire."""
        self._bound.clear()
        self._bound_messages.clear()
        self._bound_by_policy.clear()

    def count_refusal(self, reason: str) -> None:
        """See `MeshMetrics.count_refusal`. Does nothing if `reason` is empty."""
        if reason:
            self._metrics.count_refusal(reason)

    def tcp_series(self, record: ExchangeRecord) -> TcpSeries:
        """Return the counters of an opaque connection, to be updated while it lasts."""
        labels = (
            *_mesh_labels(record),
            "tcp",
            flags_text(record.flags),
            MUTUAL_TLS,
        )
        values = record.policy.values(record) if record.policy is not None else ()
        opened, closed, received, sent = (
            self._child(it, labels, record, values)
            for it in (CONNECTIONS_OPENED, CONNECTIONS_CLOSED, RECEIVED_BYTES, SENT_BYTES)
        )
        return TcpSeries(opened, closed, received, sent)

    def begin_messages(self, record: ExchangeRecord) -> None:
        """Count a gRPC request's messages from now on, unless the metrics of messages are disabled."""
        policy = record.policy
        if policy is None or not policy.metrics or not policy.disables(_OF_MESSAGES):
            record.messages = Messages()

    def count_messages(self, record: ExchangeRecord, messages: Messages) -> None:
        """Count a request's messages for its endpoint from now on."""
        if record.policy is not None and record.policy.metrics:
            bound = self._bind_messages(record, record.policy.values(record))
        else:
            key = id(record.source), id(record.endpoint), id(record.service)
            found = self._bound_messages.get(key)
            if found is None:
                if len(self._bound_messages) >= MAX_BOUND_SERIES:
                    self._bound_messages.clear()
                found = self._bound_messages[key] = self._bind_messages(record, ())
            bound = found
        messages.count_for(bound.request, bound.response)

    def record_tcp(self, record: ExchangeRecord) -> None:
        """Log an opaque connection that has ended; its HTTP fields are left at their defaults."""
        if record.verdict is not None:
            self._verdicts.count(record.verdict, record.source, record.service)
        if self._access_log is not None:
            self._access_log.write(record, flags_text(record.flags), upstream_of(record.endpoint))
        if self._watchers is not None:
            self._show(record, self._watchers)

    def _show(self, record: ExchangeRecord, watchers: tuple[Watcher, ...]) -> None:
        for watcher in watchers:
            watcher(record)

    def _series(self, record: ExchangeRecord) -> _BoundSeries | None:
        """Return what counts an exchange; None if all of it is disabled."""
        policy = record.policy
        has_rules = policy is not None and bool(policy.metrics)
        if policy is not None and has_rules and policy.disables(_OF_REQUESTS):
            return None
        # By identity: hashing eight label strings on every request costs more than everything else here.
        key = (
            id(record.source),
            id(record.endpoint),
            id(record.service),
            record.status,
            record.flags,
            record.grpc_status,
            record.is_grpc,
        )
        if policy is not None and has_rules:
            return self._series_by_policy(record, policy, key)
        series = self._bound.get(key)
        if series is None:
            if len(self._bound) >= MAX_BOUND_SERIES:
                self._bound.clear()
            series = self._bound[key] = self._bind(record, ())
        return series

    def _series_by_policy(
        self, record: ExchangeRecord, policy: TelemetryPolicy[ExchangeRecord], key: _BoundKey
    ) -> _BoundSeries:
        bound, values = self._bound_by_policy, policy.values(record)
        its_key = (key, id(policy), values)
        series = bound.get(its_key)
        if series is None:
            if len(bound) >= MAX_BOUND_SERIES:
                bound.clear()
            series = bound[its_key] = self._bind(record, values)
        return series

    def _child(
        self, metric: Metric[Child], labels: tuple[str, ...], record: ExchangeRecord, values: tuple[str, ...]
    ) -> Child:
        """Return what counts for these labels, as the policy overrides them. What is disabled counts nowhere."""
        if record.policy is None:
            return self._metrics.of(metric).labels(labels)
        found = record.policy.labels(metric.name, metric.label_names, labels, values)
        return metric.child() if found is None else self._metrics.of(metric).labels(found)

    def _bind_messages(self, record: ExchangeRecord, values: tuple[str, ...]) -> _BoundMessages:
        labels = _mesh_labels(record)
        return _BoundMessages(
            request=self._child(REQUEST_MESSAGES, labels, record, values),
            response=self._child(RESPONSE_MESSAGES, labels, record, values),
            owners=(record.source, record.endpoint, record.service),
        )

    def _bind(self, record: ExchangeRecord, values: tuple[str, ...]) -> _BoundSeries:
        flags = flags_text(record.flags)
        labels = (
            *_mesh_labels(record),
            "grpc" if record.is_grpc else "http",
            str(record.status),
            grpc_code(record.grpc_status),
            flags,
            MUTUAL_TLS,
        )
        return _BoundSeries(
            requests=self._child(REQUESTS, labels, record, values),
            duration=self._child(REQUEST_DURATION, labels, record, values),
            request_bytes=self._child(REQUEST_BYTES, labels, record, values),
            response_bytes=self._child(RESPONSE_BYTES, labels, record, values),
            flags=flags,
            upstream=upstream_of(record.endpoint),
            owners=(record.source, record.endpoint, record.service, record.policy),
        )


def _mesh_labels(record: ExchangeRecord) -> tuple[str, ...]:
    destination = record.endpoint.workload if record.endpoint else UNKNOWN_WORKLOAD
    return (REPORTER, *mesh_values(record.source, record.service, destination))
