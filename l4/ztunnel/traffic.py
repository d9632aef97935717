"""What the ztunnel tells of a connection: the istio_tcp_* counters, and a line in ztunnel's access-log format."""

import time
from dataclasses import dataclass

from l4.discovery.workload import Service, Workload
from l4.hbone.errors import ConnectTimedOut, HandshakeFailed, TunnelRefused
from l4.identity.store import NoCertificate
from l4.net.copy import Copy
from l4.telemetry.access_log import AccessLog, StartTime
from l4.telemetry.metrics import MeshMetrics, mesh_values
from policies.attributes import Identity
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, WorkloadLabels


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection, as both log and metrics describe it. `direction` is inbound or outbound; identities are None
    without mutual TLS. `destination_address` is the next hop, `authority` what a tunnel asked for."""

    direction: str
    source_address: tuple[str, int]
    source: WorkloadLabels
    source_pod: str
    source_identity: Identity | None
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


class Traffic:
    def __init__(self, metrics: MeshMetrics, access_log: AccessLog | None) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._time = StartTime()

    def opened(self, flow: Flow) -> "Connection":
        """Count a connection whose labels are known."""
        self._metrics.connections_opened.labels(self._labels(flow, "-")).add()
        return Connection(self, flow)

    def closed(self, flow: Flow, copy: Copy | None, error: Exception | None, seconds: float) -> None:
        flag = response_flag(error)
        request_bytes, response_bytes = (copy.received, copy.sent) if copy is not None else (0, 0)
        labels = self._labels(flow, "-")
        self._metrics.received_bytes.labels(labels).add(request_bytes)
        self._metrics.sent_bytes.labels(labels).add(response_bytes)
        self._metrics.connections_closed.labels(self._labels(flow, flag)).add()
        if self._access_log is not None:
            self._access_log.write(self._line(flow, request_bytes, response_bytes, error, seconds))

    def failed(self, direction: str, source: str, destination: str, reason: str) -> None:
        """A connection that ended before anything was known about it: a line, no metrics."""
        if self._access_log is not None:
            fields = _fields(
                ("src.addr", source), ("dst.addr", destination), ("direction", direction), ("error", reason)
            )
            self._access_log.write(f"{self._now()}\twarn\taccess\tconnection failed\t{fields}\n")

    def _line(
        self, flow: Flow, request_bytes: int, response_bytes: int, error: Exception | None, seconds: float
    ) -> str:
        out = flow.direction == "outbound"
        service = flow.service
        identities = flow.is_mutual_tls
        fields = _fields(
            ("src.addr", _address(flow.source_address)),
            ("src.workload", flow.source_pod),
            ("src.namespace", _known(flow.source.namespace)),
            ("src.identity", str(flow.source_identity or "") if identities else ""),
            ("dst.addr", _address(flow.destination_address)),
            ("dst.hbone_addr", flow.authority),
            ("dst.service", service.hostname if service else ""),
            ("dst.workload", flow.destination_pod),
            ("dst.namespace", _known(flow.destination.namespace)),
            ("dst.identity", str(flow.destination_identity or "") if identities else ""),
            ("direction", flow.direction),
        )
        sent, received = (request_bytes, response_bytes) if out else (response_bytes, request_bytes)
        end = _fields(("error", str(error))) if error else ""
        level = "error" if error else "info"
        duration = f"{seconds * 1000:.0f}ms"
        return (
            f"{self._now()}\t{level}\taccess\tconnection complete\t{fields} "
            f'bytes_sent={sent} bytes_recv={received} duration="{duration}" {end}'.rstrip()
            + "\n"
        )

    def _labels(self, flow: Flow, flag: str) -> tuple[str, ...]:
        reporter = "source" if flow.direction == "outbound" else "destination"
        policy = "mutual_tls" if flow.is_mutual_tls else "unknown"
        values = mesh_values(flow.source, flow.service or _NO_SERVICE, flow.destination)
        return (reporter, *values, "tcp", flag, policy)

    def _now(self) -> str:
        return self._time.format(time.time())


class Connection:
    """A counted connection; `done` reports its end, once."""

    __slots__ = ("_flow", "_started", "_traffic")

    def __init__(self, traffic: Traffic, flow: Flow) -> None:
        self._traffic = traffic
        self._flow = flow
        self._started = time.perf_counter()

    def done(self, copy: Copy | None, error: Exception | None) -> None:
        self._traffic.closed(self._flow, copy, error, time.perf_counter() - self._started)


def response_flag(error: Exception | None) -> str:
    """ztunnel's `response_flags` for how a connection ended."""
    match error:
        case None:
            return "-"
        case ConnectTimedOut():
            return "NETWORK_POLICY"
        case HandshakeFailed():
            return "TLS_FAILURE"
        case NoCertificate():
            return "IDENTITY_ERROR"
        case TunnelRefused(status=401):
            return "DENY"
        case _:
            return "CONNECT"


def labels_of(workload: Workload | None) -> WorkloadLabels:
    return workload.metric_labels if workload is not None else UNKNOWN_WORKLOAD


def _fields(*fields: tuple[str, str]) -> str:
    return " ".join(f'{name}="{_escaped(value)}"' for name, value in fields if value)


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode().replace('"', "'")


def _known(value: str) -> str:
    return "" if value == "unknown" else value


def _address(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
