"""Open connections, and their telemetry: istio_tcp_* counters and ztunnel's access-log lines.

Bytes are counted while they flow, at each call of `report`, and once more at the end. A reset by the application is not
an error: many applications end all connections that way.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, time

from l4.discovery.workload import Workload
from l4.hbone.errors import ConnectTimedOut, HandshakeFailed, TunnelRefused, TunnelReset
from l4.http2.errors import ErrorCode
from l4.identity.source import NoCertificate
from l4.net.copy import Copy, SideLost
from l4.telemetry.access_log import AccessLog, StartTime
from l4.telemetry.metrics import TCP_LABELS, MeshMetrics
from l4.telemetry.tally import Tally
from l4.telemetry.verdicts import Verdicts, hits_of
from l4.ztunnel.ends import NO_FLAG, NO_SERVICE, Ends, KnownEnds, Series, field
from policies.access import Access
from policies.authorization import Verdict
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, WorkloadLabels
from policies.host_port import host_port


@dataclass(slots=True)
class Flow:
    """One connection, as described in logs and metrics.

    `destination_address` is the next hop, `authority` the target of a tunnel. `original_destination` is the
    application's address, as called by a pod, or where the connection enters one.
    """

    ends: Ends
    source_address: tuple[str, int]
    original_destination: tuple[str, int]
    destination_address: tuple[str, int]
    authority: str


_FLAG_INDEX = TCP_LABELS.index("response_flags")


class Traffic:
    __slots__ = ("_access_log", "_metrics", "_one_ended", "_open", "_time", "_verdicts", "known")

    def __init__(self, metrics: MeshMetrics, access_log: AccessLog | None) -> None:
        self._metrics = metrics
        self._verdicts = Verdicts(metrics)
        self._access_log = access_log
        self._time = StartTime()
        self.known = KnownEnds()
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
        self._begun(flow.ends)
        connection = _Connection(flow, access, self._closed)
        self._open[connection.copy] = connection
        return connection.copy

    def moved(self, copy: Copy, flow: Flow, error: Exception) -> None:
        """Record that an unused connection takes another way because of `error`.

        Counters record an end and a new start. The access log gets one line at the end.
        """
        connection = self._open.get(copy)
        if connection is None:
            return
        self._ended(connection.flow.ends, response_flag(error))
        self._begun(flow.ends)
        connection.move(flow)

    def _begun(self, ends: Ends) -> None:
        series = ends.series
        if series is None:
            metrics, labels = self._metrics, ends.labels
            series = ends.series = Series(
                metrics.connections_opened.labels(labels),
                metrics.received_bytes.labels(labels),
                metrics.sent_bytes.labels(labels),
            )
        series.opened.value += 1

    def _ended(self, ends: Ends, flag: str) -> None:
        labels, series = ends.labels, ends.series
        if flag != NO_FLAG:
            labels = (*labels[:_FLAG_INDEX], flag, *labels[_FLAG_INDEX + 1 :])
            self._metrics.connections_closed.labels(labels).add()
            return
        assert series is not None  # a connection that ends has begun
        if series.closed is None:
            series.closed = self._metrics.connections_closed.labels(labels)
        series.closed.value += 1

    def judged(self, ends: Ends, verdict: Verdict) -> None:
        """Count what the policies decided about a connection."""
        self._verdicts.count(verdict, ends.source, ends.service or NO_SERVICE)

    @property
    def hits(self) -> dict[str, dict[str, int]]:
        """How often each policy has acted; see `hits_of`."""
        return hits_of(self._metrics)

    def cut(self, judge: Callable[[str, Access], Verdict]) -> None:
        """Reset connections that are now denied. `judge` receives the pod's uid and the access."""
        for connection in list(self._open.values()):
            if connection.access is None:
                continue
            verdict = judge(connection.flow.ends.pod_uid, connection.access)
            if not verdict.is_allowed:
                self.judged(connection.flow.ends, verdict)
                connection.copy.abort(PolicyChanged())

    def flows(self) -> dict[str, list[Flow]]:
        """Return the open connections of each pod, by its uid."""
        found: dict[str, list[Flow]] = {}
        for connection in self._open.values():
            found.setdefault(connection.flow.ends.pod_uid, []).append(connection.flow)
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
        return [connection for connection in self._open.values() if connection.flow.ends.pod_uid == pod_uid]

    def _closed(self, connection: "_Connection", error: Exception | None) -> None:
        self._open.pop(connection.copy, None)
        self._one_ended.set()
        connection.report()
        flow, copy = connection.flow, connection.copy
        error = None if _is_ordinary(error) else error
        self._ended(flow.ends, response_flag(error))
        if self._access_log is not None:
            seconds = perf_counter() - connection.started
            self._access_log.write(self._line(flow, copy.received, copy.sent, error, seconds).encode())

    def failed(self, direction: str, source: str, destination: str, reason: str) -> None:
        """Log a connection that ended before its labels were known. It has no metrics."""
        if self._access_log is not None:
            fields = (
                field("src.addr", source),
                field("dst.addr", destination),
                field("direction", direction),
                field("error", reason),
            )
            said = "".join(fields).lstrip()
            self._access_log.write(f"{self._now()}\twarn\taccess\tconnection failed\t{said}\n".encode())

    def _line(
        self, flow: Flow, request_bytes: int, response_bytes: int, error: Exception | None, seconds: float
    ) -> str:
        ends, source, destination = flow.ends, flow.source_address, flow.destination_address
        sent, received = request_bytes, response_bytes
        if ends.direction != "outbound":
            sent, received = response_bytes, request_bytes
        return (
            f"{self._now()}\t{'error' if error else 'info'}\taccess\tconnection complete\t"
            f'src.addr="{host_port(source[0], source[1])}"{ends.source_text}'
            f' dst.addr="{host_port(destination[0], destination[1])}"{field("dst.hbone_addr", flow.authority)}'
            f'{ends.destination_text} direction="{ends.direction}" bytes_sent={sent} bytes_recv={received}'
            f' duration="{round(seconds * 1000)}ms"{field("error", str(error)) if error else ""}\n'
        )

    def _now(self) -> str:
        return self._time.format(time()).decode()


class _Connection:
    """An open connection. The series in which it counts stay as long, also if nothing flows."""

    __slots__ = ("_on_closed", "_received", "_sent", "access", "copy", "flow", "started")

    def __init__(
        self, flow: Flow, access: Access | None, on_closed: Callable[["_Connection", Exception | None], None]
    ) -> None:
        self.access = access
        self.copy = Copy(self._done)
        self.started = perf_counter()
        self._on_closed = on_closed
        self.move(flow)

    def move(self, flow: Flow) -> None:
        series = flow.ends.series
        assert series is not None  # a connection that is open has been counted
        self.flow = flow
        self._received, self._sent = Tally(series.received), Tally(series.sent)

    def report(self) -> None:
        self._received.reach(self.copy.received)
        self._sent.reach(self.copy.sent)

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
            return NO_FLAG
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


def labels_of(workload: Workload | None) -> WorkloadLabels:
    return workload.metric_labels if workload is not None else UNKNOWN_WORKLOAD
