"""Report an exchange when it is over: metrics, an access log line, and its span.

An exchange fills an `ExchangeRecord` and passes it to `Telemetry.record` exactly once, however it ends. This runs on
every request, so that everything constant (label sets, the upstream's name) is computed once per combination of source,
endpoint, service and response, and cached.

The line has Envoy's default text format
(https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage), with `-` for missing values.
All client-controlled text is escaped, so that a client cannot forge a line or a field.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from l4.telemetry.access_log import AccessLog, StartTime
from l4.telemetry.metrics import (
    DESTINATION_LABELS,
    SOURCE_LABELS,
    Histogram,
    MeshMetrics,
    NamedService,
    Value,
    counter,
    histogram,
    mesh_values,
)
from l4.telemetry.source import SourceLabels
from policies.attributes import ClusterName, Header, Peer
from policies.authorization import Verdict
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, Endpoint, WorkloadLabels
from policies.host_port import host_port
from policies.verdict import ResponseFlag

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Span

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
REQUESTS = counter("istio_requests", "Requests with an answer, from the endpoint or the proxy.", REQUEST_LABELS)
REQUEST_DURATION = histogram(
    "istio_request_duration_milliseconds",
    "Time from a request's first byte to its response's last byte, in milliseconds.",
    REQUEST_LABELS,
)
REQUEST_BYTES = histogram("istio_request_bytes", "Size of requests with their heads, in bytes.", REQUEST_LABELS)
RESPONSE_BYTES = histogram("istio_response_bytes", "Size of responses with their heads, in bytes.", REQUEST_LABELS)
AUTHORIZATION_DENIED = counter(
    "pywaypoint_authorization_denied",
    "Requests that an AuthorizationPolicy denied; `none`: no ALLOW policy allowed them.",
    ("policy",),
)
AUTHORIZATION_DRY_RUN = counter(
    "pywaypoint_authorization_dry_run",
    "What AuthorizationPolicies on trial would have decided.",
    ("authz_dry_run_action", "authz_dry_run_result", "policy"),
)


@dataclass(slots=True)
class ExchangeRecord:
    """One exchange, or one TCP connection, with the parts named like Envoy's access-log operators.

    Created when the request head has arrived; the exchange fills in the rest as it becomes known. `bytes_*` count
    bodies, `request_bytes` and `response_bytes` heads too. `status` is 0 if no response was sent. `detail` is
    `via_upstream` if the upstream responded, else the reason of the local response. `original_target` is the path and
    query before any rewrite. `downstream_local` is the client's intended destination: the tunnel's authority.
    """

    started_at: float
    """Wall-clock seconds."""
    peer: Peer
    source: WorkloadLabels
    downstream_local: tuple[str, int]
    service: NamedService
    """The selected cluster's service; before there is one, the service that the authority names."""
    method: bytes = b""
    original_target: bytes = b""
    protocol: str = ""
    authority: bytes | None = None
    x_forwarded_for: bytes | None = None
    user_agent: bytes | None = None
    request_id: bytes | None = None
    is_grpc: bool = False
    route_name: str = ""
    cluster: ClusterName | None = None
    endpoint: Endpoint | None = None
    status: int = 0
    grpc_status: str = ""
    flags: tuple[ResponseFlag, ...] = ()
    detail: str = ""
    connection_termination_details: str = ""
    upstream_transport_failure_reason: str = ""
    upstream_service_time_ms: int | None = None
    bytes_received: int = 0
    bytes_sent: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    duration_ms: float = 0.0
    requested_server_name: str = ""
    """The SNI of a TLS client, on a port that is declared to carry TLS."""
    verdict: Verdict | None = None
    """The verdict of AuthorizationPolicies; None if there are none."""
    headers: Sequence[Header] = ()
    """The request's headers. The route's edits and the filters show."""
    span: "Span | None" = None
    """The span of a traced request, from `tracer.begin(…)`. `Telemetry.record` ends it."""


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
    owners: tuple[WorkloadLabels, Endpoint | None, NamedService]


_GRPC_STATUSES = frozenset({"", *map(str, range(17))})
_GRPC_UNKNOWN = "2"

_BoundKey = tuple[int, int, int, int, tuple[ResponseFlag, ...], str, bool]


class Telemetry:
    """Reports exchanges. `access_log` is None if no access log is wanted; `sources` finds a caller's labels."""

    __slots__ = ("_access_log", "_bound", "_metrics", "_start_time", "_watchers", "sources")

    def __init__(self, metrics: MeshMetrics, access_log: AccessLog | None) -> None:
        self.sources = SourceLabels()
        self._metrics = metrics
        self._access_log = access_log
        self._start_time = StartTime()
        self._bound: dict[_BoundKey, _BoundSeries] = {}
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
        series.requests.value += 1
        series.duration.observe(record.duration_ms)
        series.request_bytes.observe(record.request_bytes)
        series.response_bytes.observe(record.response_bytes)
        if record.verdict is not None:
            self._count(record.verdict)
        if self._access_log is not None:
            self._access_log.write(self._line(record, series.flags, series.upstream))
        if record.span is not None:
            end_ns = int(record.started_at * 1e9 + record.duration_ms * 1e6)
            is_error = record.status >= 500 or not record.status
            record.span.end(span_name(record), span_attributes(record), is_error, end_ns)
        if self._watchers is not None:
            self._show(record, self._watchers)

    def count_refusal(self, reason: str) -> None:
        """See `MeshMetrics.count_refusal`. Does nothing if `reason` is empty."""
        if reason:
            self._metrics.count_refusal(reason)

    def tcp_series(self, source: WorkloadLabels, endpoint: Endpoint | None, service: NamedService) -> TcpSeries:
        """Return the counters of an opaque connection, to be updated while it lasts."""
        destination = endpoint.workload if endpoint else UNKNOWN_WORKLOAD
        labels = (REPORTER, *mesh_values(source, service, destination), "tcp", "-", MUTUAL_TLS)
        metrics = self._metrics
        return TcpSeries(
            opened=metrics.connections_opened.labels(labels),
            closed=metrics.connections_closed.labels(labels),
            received=metrics.received_bytes.labels(labels),
            sent=metrics.sent_bytes.labels(labels),
        )

    def record_tcp(self, record: ExchangeRecord) -> None:
        """Log an opaque connection that has ended; its HTTP fields are left at their defaults."""
        if record.verdict is not None:
            self._count(record.verdict)
        if self._access_log is not None:
            self._access_log.write(self._line(record, _flags(record.flags), _upstream(record.endpoint)))
        if self._watchers is not None:
            self._show(record, self._watchers)

    def _show(self, record: ExchangeRecord, watchers: tuple[Watcher, ...]) -> None:
        for watcher in watchers:
            watcher(record)

    def _count(self, verdict: Verdict) -> None:
        if not verdict.is_allowed:
            policy = str(verdict.rule.policy) if verdict.rule is not None else "none"
            self._metrics.of(AUTHORIZATION_DENIED).labels((policy,)).add()
        for it in verdict.shadow:
            policy = str(it.rule.policy) if it.rule is not None else "none"
            result = "allowed" if it.is_allowed else "denied"
            self._metrics.of(AUTHORIZATION_DRY_RUN).labels((it.action.lower(), result, policy)).add()

    def _series(self, record: ExchangeRecord) -> _BoundSeries:
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
        series = self._bound.get(key)
        if series is None:
            if len(self._bound) >= MAX_BOUND_SERIES:
                self._bound.clear()
            series = self._bound[key] = self._bind(record)
        return series

    def _bind(self, record: ExchangeRecord) -> _BoundSeries:
        destination = record.endpoint.workload if record.endpoint else UNKNOWN_WORKLOAD
        flags = _flags(record.flags)
        labels = (
            REPORTER,
            *mesh_values(record.source, record.service, destination),
            "grpc" if record.is_grpc else "http",
            str(record.status),
            _grpc_status(record),
            flags,
            MUTUAL_TLS,
        )
        return _BoundSeries(
            requests=self._metrics.of(REQUESTS).labels(labels),
            duration=self._metrics.of(REQUEST_DURATION).labels(labels),
            request_bytes=self._metrics.of(REQUEST_BYTES).labels(labels),
            response_bytes=self._metrics.of(RESPONSE_BYTES).labels(labels),
            flags=flags,
            upstream=_upstream(record.endpoint),
            owners=(record.source, record.endpoint, record.service),
        )

    def _line(self, record: ExchangeRecord, flags: str, upstream: tuple[str, str]) -> str:
        r = record
        upstream_host, upstream_local = upstream
        service_time = "-" if r.upstream_service_time_ms is None else r.upstream_service_time_ms
        if r.detail == _ANSWERED and not (r.connection_termination_details or r.upstream_transport_failure_reason):
            why = _ANSWERED_WHY
        else:
            why = (
                f"{_word(r.detail)} {_word(r.connection_termination_details)} "
                f'"{_text(r.upstream_transport_failure_reason)}"'
            )
        local, server_name = r.downstream_local, r.requested_server_name
        ends = _ends(r.cluster, upstream_local, *local, r.peer.ip, r.peer.port, server_name, r.route_name)
        return (
            f'[{self._start_time.format(r.started_at)}] "{_repeated(r.method)} {_escaped(r.original_target)} '
            f'{r.protocol or "-"}" {r.status} {flags} '
            f"{why} {r.bytes_received} {r.bytes_sent} {int(r.duration_ms)} {service_time} "
            f'"{_repeated(r.x_forwarded_for)}" "{_repeated(r.user_agent)}" "{_escaped(r.request_id)}" '
            f'"{_repeated(r.authority)}" '
            f'"{upstream_host}" {ends}{_noted(r.verdict) if r.verdict is not None else ""}\n'
        )


def _noted(verdict: Verdict) -> str:
    """Return the text behind Envoy's fields: audits and dry runs, if a policy requests them."""
    audited = f' audit="{_text(",".join(it.name for it in verdict.audited))}"' if verdict.audited else ""
    return audited + (f' dry_run="{_text(",".join(map(str, verdict.shadow)))}"' if verdict.shadow else "")


_ANSWERED = "via_upstream"
_ANSWERED_WHY = f'{_ANSWERED} - "-"'


@lru_cache(maxsize=4096)
def _ends(
    cluster: ClusterName | None,
    upstream_local: str,
    local_ip: str,
    local_port: int,
    peer_ip: str,
    peer_port: int,
    server_name: str,
    route: str,
) -> str:
    """Return the last fields of the line, which are the same for all requests of a connection."""
    addresses = f"{_address(local_ip, local_port)} {_address(peer_ip, peer_port)}"
    return f"{_word(cluster or '')} {upstream_local} {addresses} {_word(server_name)} {_word(route)}"


_UNSAFE = bytes(byte for byte in range(256) if byte < 0x20 or byte >= 0x7F or byte in b'"\\')
_SAFE = bytes(set(range(256)) - set(_UNSAFE))
_ESCAPES = {byte: f"\\x{byte:02x}" for byte in _UNSAFE}


def _escaped(value: bytes | None) -> str:
    """Return client-controlled text, escaped; `-` if it is empty."""
    if not value:
        return "-"
    text = value.decode("latin-1")
    return text.translate(_ESCAPES) if value.translate(None, _SAFE) else text


_repeated = lru_cache(maxsize=256)(_escaped)
"""For values that most requests of a connection share. The cache is small: a value may be as large as a head."""


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    """Return the text of a quoted field, escaped: it may quote a peer's certificate or a resource's name."""
    return _escaped(text.encode())


def _word(text: str) -> str:
    """Return the text of an unquoted field. Spaces become underscores, as in Envoy, so that columns stay columns."""
    return _text(text).replace(" ", "_")


def _grpc_status(record: ExchangeRecord) -> str:
    """Return a known status code or an empty text. Other values count as UNKNOWN and must not become labels."""
    return record.grpc_status if record.grpc_status in _GRPC_STATUSES else _GRPC_UNKNOWN


def _flags(flags: tuple[ResponseFlag, ...]) -> str:
    return ",".join(flags) or "-"


def _upstream(endpoint: Endpoint | None) -> tuple[str, str]:
    """Return UPSTREAM_HOST and UPSTREAM_LOCAL_ADDRESS, with the names that Istio's waypoint gives to tunnels."""
    if endpoint is None:
        return "-", "-"
    return endpoint.name, "-" if endpoint.identity is None else "envoy://internal_client_address/"


@lru_cache(maxsize=4096)
def _address(host: str, port: int) -> str:
    return host_port(_word(host), port)


_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"})


def span_name(record: ExchangeRecord) -> str:
    """Return the span's name as in Istio: `reviews.default.svc.cluster.local:9080/*`. Paths would create too many
    names."""
    return f"{record.service.hostname}:{record.downstream_local[1]}/*"


def span_attributes(record: ExchangeRecord) -> dict[str, str | int]:
    """Return OpenTelemetry's stable HTTP attributes, and the tags by which mesh tools recognize Istio's spans.

    The query is omitted, because applications put secrets there.
    """
    r = record
    destination = r.endpoint.workload if r.endpoint else UNKNOWN_WORKLOAD
    attributes: dict[str, str | int | None] = {
        "http.request.method": r.method.decode("ascii") if r.method in _METHODS else "_OTHER",
        "http.response.status_code": r.status or None,
        "http.route": r.route_name,
        "url.scheme": "http",
        "url.path": r.original_target.partition(b"?")[0].decode("latin-1"),
        "server.address": r.service.hostname,
        "server.port": r.downstream_local[1],
        "client.address": r.peer.ip,
        "network.protocol.name": "http",
        "network.protocol.version": r.protocol.removeprefix("HTTP/"),
        "user_agent.original": r.user_agent.decode("latin-1") if r.user_agent else None,
        "error.type": _error_type(r),
        "rpc.system": "grpc" if r.is_grpc else None,
        "rpc.grpc.status_code": int(_grpc_status(r)) if r.grpc_status else None,
        "component": "proxy",
        "http.status_code": str(r.status),
        "response_flags": _flags(r.flags),
        "request_size": r.bytes_received,
        "response_size": r.bytes_sent,
        "guid:x-request-id": r.request_id.decode("latin-1") if r.request_id else None,
        "upstream_cluster": r.cluster,
        "istio.source_workload": r.source.workload,
        "istio.source_namespace": r.source.namespace,
        "istio.source_canonical_service": r.source.canonical_service,
        "istio.destination_workload": destination.workload,
        "istio.destination_namespace": destination.namespace,
        "istio.destination_canonical_service": destination.canonical_service,
    }
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


def _error_type(record: ExchangeRecord) -> str | None:
    """Return the reason of a local error, or the status of an upstream's error. None without an error."""
    if record.status and record.status < 500:
        return None
    return str(record.status) if record.detail == "via_upstream" else record.detail or "_OTHER"
