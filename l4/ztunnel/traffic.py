"""Open connections, and their telemetry: istio_tcp_* counters and ztunnel's access-log lines.

Bytes are counted while they flow, at each call of `report`, and once more at the end. A reset by the application is not
an error: many applications end all connections that way.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from l4.discovery.workload import Service, Workload
from l4.hbone.errors import ConnectTimedOut, HandshakeFailed, TunnelRefused, TunnelReset
from l4.http2.errors import ErrorCode
from l4.identity.source import NoCertificate
from l4.net.copy import Copy, SideLost
from l4.telemetry.access_log import AccessLog, StartTime
from l4.telemetry.metrics import TCP_LABELS, MeshMetrics, Value, mesh_values
from l4.telemetry.tally import Tally
from l4.telemetry.verdicts import Verdicts, hits_of
from policies.access import Access
from policies.attributes import Identity
from policies.authorization import Verdict
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, WorkloadLabels
from policies.host_port import host_port


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection, as described in logs and metrics.

    `pod_uid` is the pod whose listener accepted it; `direction` is inbound or outbound. Identities are None without
    mutual TLS. `destination_address` is the next hop, `authority` the target of a tunnel. `original_destination` is
    the application's address, as called by a pod, or where the connection enters one.
    """

    pod_uid: str
    direction: str
    source_address: tuple[str, int]
    source: WorkloadLabels
    source_pod: str
    source_identity: Identity | None
    original_destination: tuple[str, int]
    destination_address: tuple[str, int]
    authority: str
    destination: WorkloadLabels
    destination_pod: str
    destination_identity: Identity | None
    service: Service | None
    is_mutual_tls: bool


class _NoService:
    hostname = name = namespace = "unknown"


_NO_SERVICE = _NoService()
_NO_FLAG = "-"
_MAX_REMEMBERED = 300
"""Characters of the longest text that is remembered in its escaped form."""
_FLAG_INDEX = TCP_LABELS.index("response_flags")


class Traffic:
    __slots__ = ("_access_log", "_metrics", "_one_ended", "_open", "_time", "_verdicts")

    def __init__(self, metrics: MeshMetrics, access_log: AccessLog | None) -> None:
        self._metrics = metrics
        self._verdicts = Verdicts(metrics)
        self._access_log = access_log
        self._time = StartTime()
        self._open: dict[Copy, _Connection] = {}
        self._one_ended = asyncio.Event()

    @property
    def open_count(self) -> int:
        return len(self._open)

    def count_refusal(self, reason: str) -> None:
        self._metrics.count_refusal(reason)

    def opened(self, flow: Flow, access: Access | None = None) -> Copy:
        """Count a connection whose labels are known, and return its copy. Its end is recorded when the copy ends.

        `access` is re-evaluated when policies change.
        """
        connection = _Connection(flow, access, self._begun(flow), self._closed)
        self._open[connection.copy] = connection
        return connection.copy

    def moved(self, copy: Copy, flow: Flow, error: Exception) -> None:
        """Record that an unused connection takes another way because of `error`.

        Counters record an end and a new start. The access log gets one line at the end.
        """
        connection = self._open.get(copy)
        if connection is None:
            return
        self._ended(connection, response_flag(error))
        connection.move(flow, self._begun(flow))

    def _begun(self, flow: Flow) -> "_Series":
        labels = _labels(flow)
        opened = self._metrics.connections_opened.labels(labels)
        opened.add()
        received, sent = self._metrics.received_bytes.labels(labels), self._metrics.sent_bytes.labels(labels)
        return _Series(labels, opened, Tally(received), Tally(sent))

    def _ended(self, connection: "_Connection", flag: str) -> None:
        labels = connection.series.labels
        if flag != _NO_FLAG:
            labels = (*labels[:_FLAG_INDEX], flag, *labels[_FLAG_INDEX + 1 :])
        self._metrics.connections_closed.labels(labels).add()

    def judged(self, flow: Flow, verdict: Verdict) -> None:
        """Count what the policies decided about a connection."""
        self._verdicts.count(verdict, _source_of(flow), flow.service or _NO_SERVICE)

    @property
    def hits(self) -> dict[str, dict[str, int]]:
        """How often each policy has acted; see `hits_of`."""
        return hits_of(self._metrics)

    def cut(self, judge: Callable[[str, Access], Verdict]) -> None:
        """Reset connections that are now denied. `judge` receives the pod's uid and the access."""
        for connection in list(self._open.values()):
            if connection.access is None:
                continue
            verdict = judge(connection.flow.pod_uid, connection.access)
            if not verdict.is_allowed:
                self.judged(connection.flow, verdict)
                connection.copy.abort(PolicyChanged())

    def flows(self) -> dict[str, list[Flow]]:
        """Return the open connections of each pod, by its uid."""
        found: dict[str, list[Flow]] = {}
        for connection in self._open.values():
            found.setdefault(connection.flow.pod_uid, []).append(connection.flow)
        return found

    def report(self) -> None:
        """Count the bytes transferred since the last call."""
        for connection in self._open.values():
            connection.report()

    async def drain(self, pod_uid: str, seconds: float) -> None:
        """Let a pod's connections finish for `seconds`, then close the rest."""
        try:
            async with asyncio.timeout(seconds):
                while self._of(pod_uid):
                    self._one_ended.clear()
                    await self._one_ended.wait()
        except TimeoutError:
            for connection in self._of(pod_uid):
                connection.copy.abort(NotDrained())

    def _of(self, pod_uid: str) -> list["_Connection"]:
        return [connection for connection in self._open.values() if connection.flow.pod_uid == pod_uid]

    def _closed(self, connection: "_Connection", error: Exception | None) -> None:
        self._open.pop(connection.copy, None)
        self._one_ended.set()
        connection.report()
        flow, copy = connection.flow, connection.copy
        error = None if _is_ordinary(error) else error
        self._ended(connection, response_flag(error))
        if self._access_log is not None:
            seconds = time.perf_counter() - connection.started
            self._access_log.write(self._line(flow, copy.received, copy.sent, error, seconds).encode())

    def failed(self, direction: str, source: str, destination: str, reason: str) -> None:
        """Log a connection that ended before its labels were known. It has no metrics."""
        if self._access_log is not None:
            fields = (
                _field("src.addr", source),
                _field("dst.addr", destination),
                _field("direction", direction),
                _field("error", reason),
            )
            said = "".join(fields).lstrip()
            self._access_log.write(f"{self._now()}\twarn\taccess\tconnection failed\t{said}\n".encode())

    def _line(
        self, flow: Flow, request_bytes: int, response_bytes: int, error: Exception | None, seconds: float
    ) -> str:
        source, destination, service = flow.source, flow.destination, flow.service
        sent, received = request_bytes, response_bytes
        if flow.direction != "outbound":
            sent, received = response_bytes, request_bytes
        parts: list[str] = [
            self._now(),
            "\terror" if error else "\tinfo",
            "\taccess\tconnection complete\t",
            f'src.addr="{host_port(*flow.source_address)}"',
            _field("src.workload", flow.source_pod),
            _field("src.namespace", _known(source.namespace)),
            _identity("src.identity", flow.source_identity, flow.is_mutual_tls),
            _field("src.cluster", _known(source.cluster)),
            f' dst.addr="{host_port(*flow.destination_address)}"',
            _field("dst.hbone_addr", flow.authority),
            _field("dst.service", service.hostname if service is not None else ""),
            _field("dst.workload", flow.destination_pod),
            _field("dst.namespace", _known(destination.namespace)),
            _identity("dst.identity", flow.destination_identity, flow.is_mutual_tls),
            _field("dst.cluster", _known(destination.cluster)),
            f' direction="{flow.direction}" bytes_sent={sent} bytes_recv={received} duration="{seconds * 1000:.0f}ms"',
            _field("error", str(error)) if error else "",
            "\n",
        ]
        return "".join(parts)

    def _now(self) -> str:
        return self._time.format(time.time()).decode()


def _labels(flow: Flow) -> tuple[str, ...]:
    """Return the labels of a connection that has not failed."""
    reporter = "source" if flow.direction == "outbound" else "destination"
    policy = "mutual_tls" if flow.is_mutual_tls else "unknown"
    values = mesh_values(_source_of(flow), flow.service or _NO_SERVICE, flow.destination)
    return (reporter, *values, "tcp", _NO_FLAG, policy)


@dataclass(frozen=True, slots=True)
class _Series:
    """What counts a connection. Its series stay while the connection is open, also if nothing flows."""

    labels: tuple[str, ...]
    opened: Value
    received: Tally
    sent: Tally


class _Connection:
    __slots__ = ("_on_closed", "access", "copy", "flow", "series", "started")

    def __init__(
        self,
        flow: Flow,
        access: Access | None,
        series: _Series,
        on_closed: Callable[["_Connection", Exception | None], None],
    ) -> None:
        self.flow = flow
        self.access = access
        self.copy = Copy(self._done)
        self.started = time.perf_counter()
        self.series = series
        self._on_closed = on_closed

    def move(self, flow: Flow, series: _Series) -> None:
        self.flow, self.series = flow, series

    def report(self) -> None:
        self.series.received.reach(self.copy.received)
        self.series.sent.reach(self.copy.sent)

    def _done(self, error: Exception | None) -> None:
        self._on_closed(self, error)


class NotDrained(ConnectionAbortedError):
    """We are stopping, or the pod was removed. The text is ztunnel's."""

    def __init__(self) -> None:
        super().__init__("connection failed to drain within the timeout")


class PolicyRejected(ConnectionAbortedError):
    """A policy denied the connection. The text is ztunnel's."""

    def __init__(self, verdict: Verdict) -> None:
        why = "allow policies exist, but none allowed"
        if verdict.rule is not None:
            why = f"explicitly denied by: {verdict.rule.policy}"
        super().__init__(f"connection closed due to policy rejection: {why}")


class PolicyChanged(ConnectionAbortedError):
    def __init__(self) -> None:
        super().__init__("connection closed due to policy change")


def _is_ordinary(error: Exception | None) -> bool:
    """Whether the end is one that applications commonly use. ztunnel does not log it as an error either."""
    if not isinstance(error, SideLost):
        return error is None
    match error.cause:
        case TunnelReset(code=code):
            return code in {ErrorCode.NO_ERROR, ErrorCode.CANCEL}
        case cause:
            return cause is None or isinstance(cause, ConnectionError)


def response_flag(error: Exception | None) -> str:
    """Return ztunnel's `response_flags` value for how a connection ended."""
    match error:
        case None:
            return _NO_FLAG
        case ConnectTimedOut():
            return "NETWORK_POLICY"
        case HandshakeFailed():
            return "TLS_FAILURE"
        case NoCertificate():
            return "IDENTITY_ERROR"
        case TunnelRefused(status=401) | PolicyRejected() | PolicyChanged():
            return "DENY"
        case _:
            return "CONNECT"


def _source_of(flow: Flow) -> WorkloadLabels:
    """Return the client's labels. Without mutual TLS, nothing proves its principal."""
    return flow.source if flow.is_mutual_tls else replace(flow.source, principal=UNKNOWN_WORKLOAD.principal)


def labels_of(workload: Workload | None) -> WorkloadLabels:
    return workload.metric_labels if workload is not None else UNKNOWN_WORKLOAD


def _identity(name: str, identity: Identity | None, is_proven: bool) -> str:
    return _field(name, str(identity)) if identity is not None and is_proven else ""


def _field(name: str, value: str) -> str:
    """Return the field after a space, or an empty text if there is no value."""
    return f' {name}="{_escaped(value)}"' if value else ""


def _escaped(text: str) -> str:
    return _recent(text) if len(text) <= _MAX_REMEMBERED else _escape(text)


def _escape(text: str) -> str:
    return text.encode("unicode_escape").decode().replace('"', "'")


_recent = lru_cache(1024)(_escape)
"""Nearly all texts are names of workloads and services, again and again."""


def _known(value: str) -> str:
    return "" if value == "unknown" else value
