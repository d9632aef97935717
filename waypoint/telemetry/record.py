"""The record of one exchange, which metrics, the access log and spans are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l4.telemetry.metrics import NamedService
from policies.attributes import ClusterName, Header, Peer
from policies.authorization import Verdict
from policies.balancing.endpoint import Endpoint, WorkloadLabels
from policies.telemetry import TelemetryPolicy
from policies.verdict import ResponseFlag

if TYPE_CHECKING:
    from waypoint.telemetry.messages import Messages
    from waypoint.telemetry.spans import Span

_GRPC_STATUSES = frozenset({"", *map(str, range(17))})
_GRPC_UNKNOWN = "2"


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
    messages: "Messages | None" = None
    """The messages of a gRPC request."""
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
    request_ms: float | None = None
    """From the request's first byte to its last; None if that has not come."""
    response_ms: float | None = None
    """From the request's first byte to the first one of the endpoint's response; None without a response."""
    attempts: int = 0
    """How many times an endpoint was tried; 0 if the waypoint answered by itself."""
    upstream_protocol: str = ""
    requested_server_name: str = ""
    """The SNI of a TLS client, on a port that is declared to carry TLS."""
    verdict: Verdict | None = None
    """The verdict of AuthorizationPolicies; None if there are none."""
    headers: Sequence[Header] = ()
    """The request's headers. The route's edits and the filters show."""
    response_headers: Sequence[Header] = ()
    """The headers of the response, as the client gets them."""
    response_trailers: Sequence[Header] = ()
    """The trailers of the response, as the endpoint sent them."""
    policy: "TelemetryPolicy[ExchangeRecord] | None" = None
    """What Telemetry objects say about the service."""
    span: "Span | None" = None
    """The span of a traced request, from `tracer.begin(…)`. `Telemetry.record` ends it."""

    def received(self, data: bytes) -> None:
        """Count a part of the request's body."""
        self.bytes_received += len(data)
        if self.messages is not None:
            self.messages.request.feed(data)

    def sent(self, data: bytes) -> None:
        """Count a part of the response's body."""
        self.bytes_sent += len(data)
        if self.messages is not None:
            self.messages.response.feed(data)


def flags_text(flags: tuple[ResponseFlag, ...]) -> str:
    return ",".join(flags) or "-"


def grpc_code(status: str) -> str:
    """Return a known status code or an empty text. Other values count as UNKNOWN and must not become labels."""
    return status if status in _GRPC_STATUSES else _GRPC_UNKNOWN
