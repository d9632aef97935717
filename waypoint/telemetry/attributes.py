"""The attributes of an exchange that expressions in Telemetry objects and log formats may use, by Envoy's names.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes
"""

from collections.abc import Callable, Iterator, Mapping

from policies.attributes import Header
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, WorkloadLabels
from policies.cel import Value
from waypoint.telemetry.record import ExchangeRecord

_Read = Callable[[ExchangeRecord], Value]


class _Headers(Mapping[str, str]):
    """Headers as a mapping. Values of a repeated header are joined."""

    def __init__(self, headers: "tuple[Header, ...] | list[Header]") -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode()
        found = [value for key, value in self._headers if key == wanted]
        if not found:
            raise KeyError(name)
        return b",".join(found).decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.decode("latin-1") for key, _ in self._headers))

    def __len__(self) -> int:
        return len(set(self))


def request_headers(record: ExchangeRecord) -> Mapping[str, str]:
    """Return the headers, with those that HTTP/2 calls pseudo headers."""
    pseudo = ((b":method", record.method), (b":path", record.original_target), (b":authority", record.authority or b""))
    return _Headers([*(it for it in pseudo if it[1]), *record.headers])


def response_headers(record: ExchangeRecord) -> Mapping[str, str]:
    return _Headers(list(record.response_headers))


def _header(name: bytes) -> _Read:
    return lambda record: next((value.decode("latin-1") for key, value in record.headers if key == name), None)


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value else None


def _workload(names: tuple[str, ...], of: Callable[[ExchangeRecord], WorkloadLabels]) -> Iterator[tuple[str, _Read]]:
    """Yield the attributes of one side, under the prefixes `names`."""
    parts: dict[str, _Read] = {
        "workload": lambda record: of(record).workload,
        "workload.name": lambda record: of(record).workload,
        "workload.namespace": lambda record: of(record).namespace,
        "name": lambda record: of(record).workload,
        "namespace": lambda record: of(record).namespace,
        "app": lambda record: of(record).app,
        "version": lambda record: of(record).version,
        "service": lambda record: of(record).canonical_service,
        "revision": lambda record: of(record).canonical_revision,
        "canonical_service": lambda record: of(record).canonical_service,
        "canonical_revision": lambda record: of(record).canonical_revision,
        "cluster": lambda record: of(record).cluster,
        "principal": lambda record: of(record).principal,
    }
    for prefix in names:
        yield from ((f"{prefix}.{part}", read) for part, read in parts.items())


def _destination(record: ExchangeRecord) -> WorkloadLabels:
    return record.endpoint.workload if record.endpoint is not None else UNKNOWN_WORKLOAD


ATTRIBUTES: Mapping[str, _Read] = {
    "request.path": lambda record: _text(record.original_target),
    "request.url_path": lambda record: _text(record.original_target.partition(b"?")[0]),
    "request.query": lambda record: record.original_target.partition(b"?")[2].decode("latin-1"),
    "request.host": lambda record: _text(record.authority),
    "request.scheme": _header(b"x-forwarded-proto"),
    "request.method": lambda record: _text(record.method),
    "request.headers": request_headers,
    "request.referer": _header(b"referer"),
    "request.useragent": lambda record: _text(record.user_agent),
    "request.id": lambda record: _text(record.request_id),
    "request.protocol": lambda record: record.protocol or None,
    "request.time": lambda record: record.started_at,
    "request.duration": lambda record: record.duration_ms,
    "request.size": lambda record: record.bytes_received,
    "request.total_size": lambda record: record.request_bytes,
    "response.code": lambda record: record.status,
    "response.code_details": lambda record: record.detail or None,
    "response.flags": lambda record: ",".join(record.flags),
    "response.grpc_status": lambda record: int(record.grpc_status) if record.grpc_status.isdecimal() else None,
    "response.headers": response_headers,
    "response.size": lambda record: record.bytes_sent,
    "response.total_size": lambda record: record.response_bytes,
    "connection.mtls": lambda record: record.peer.identity is not None,
    "connection.requested_server_name": lambda record: record.requested_server_name or None,
    "connection.uri_san_peer_certificate": lambda record: str(record.peer.identity) if record.peer.identity else None,
    "connection.termination_details": lambda record: record.connection_termination_details or None,
    "source.address": lambda record: f"{record.peer.ip}:{record.peer.port}",
    "source.port": lambda record: record.peer.port,
    "destination.address": lambda record: f"{record.downstream_local[0]}:{record.downstream_local[1]}",
    "destination.port": lambda record: record.downstream_local[1],
    "destination.service.host": lambda record: record.service.hostname,
    "destination.service.name": lambda record: record.service.name,
    "destination.service.namespace": lambda record: record.service.namespace,
    "upstream.address": lambda record: f"{record.endpoint.ip}:{record.endpoint.port}" if record.endpoint else None,
    "upstream.port": lambda record: record.endpoint.port if record.endpoint else None,
    "upstream.transport_failure_reason": lambda record: record.upstream_transport_failure_reason or None,
    "xds.cluster_name": lambda record: record.cluster,
    "xds.route_name": lambda record: record.route_name or None,
    **dict(_workload(("source", "downstream_peer", "filter_state.downstream_peer"), lambda record: record.source)),
    **dict(_workload(("destination", "upstream_peer", "filter_state.upstream_peer"), _destination)),
}
