"""The operators of access log formats: what each reads from the record of an exchange.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
`%CEL(…)%` takes the expressions of `waypoint.telemetry.attributes`. Envoy has no operators `%AUDIT%` and `%DRY_RUN%`:
they show what policies that audit, or are on trial, say. Envoy's operators without a meaning here are refused with the
reason, because a column that is always empty hides a mistake.
"""

import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from policies.attributes import Header
from policies.cel import Expression, Value
from policies.host_port import host_port
from policies.verdict import ResponseFlag
from waypoint.telemetry.access_line import START_TIME, upstream_of
from waypoint.telemetry.attributes import ATTRIBUTES
from waypoint.telemetry.record import ExchangeRecord, flags_text, grpc_code

_ENCODED = re.compile(rb"%([0-9a-fA-F]{2})")
_FRACTION = re.compile(r"%([1-9]?)f")
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_GRPC_NAMES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
_LONG_FLAGS = {
    ResponseFlag.NO_HEALTHY_UPSTREAM: "NoHealthyUpstream",
    ResponseFlag.UPSTREAM_CONNECTION_FAILURE: "UpstreamConnectionFailure",
    ResponseFlag.UPSTREAM_OVERFLOW: "UpstreamOverflow",
    ResponseFlag.NO_ROUTE_FOUND: "NoRouteFound",
    ResponseFlag.UPSTREAM_RETRY_LIMIT_EXCEEDED: "UpstreamRetryLimitExceeded",
    ResponseFlag.NO_CLUSTER_FOUND: "NoClusterFound",
    ResponseFlag.DOWNSTREAM_CONNECTION_TERMINATION: "DownstreamConnectionTermination",
    ResponseFlag.UPSTREAM_REQUEST_TIMEOUT: "UpstreamRequestTimeout",
    ResponseFlag.UPSTREAM_REMOTE_RESET: "UpstreamRemoteReset",
    ResponseFlag.LOCAL_RESET: "LocalReset",
    ResponseFlag.UPSTREAM_CONNECTION_TERMINATION: "UpstreamConnectionTermination",
    ResponseFlag.STREAM_IDLE_TIMEOUT: "StreamIdleTimeout",
    ResponseFlag.DELAY_INJECTED: "DelayInjected",
    ResponseFlag.FAULT_INJECTED: "FaultInjected",
    ResponseFlag.RATE_LIMITED: "RateLimited",
    ResponseFlag.RATE_LIMIT_SERVICE_ERROR: "RateLimitServiceError",
    ResponseFlag.UNAUTHORIZED_EXTERNAL_SERVICE: "UnauthorizedExternalService",
    ResponseFlag.DOWNSTREAM_PROTOCOL_ERROR: "DownstreamProtocolError",
    ResponseFlag.UPSTREAM_PROTOCOL_ERROR: "UpstreamProtocolError",
}

Read = Callable[[ExchangeRecord], Value]


class InvalidFormat(ValueError):
    """The format cannot be understood. The message says what, and where."""


def operator(name: str, argument: str | None) -> Read:
    """Return what `%name(argument)%` reads. Raises InvalidFormat, and InvalidExpression for `CEL`."""
    if name in _WITH_ARGUMENT:
        return _WITH_ARGUMENT[name](argument or "")
    if name in _PLAIN:
        if argument is not None:
            raise InvalidFormat("it takes no argument")
        return _PLAIN[name]
    raise InvalidFormat(
        next((why for prefixes, why in _REFUSED if name.startswith(prefixes)), "there is no such operator")
    )


_REFUSED: Sequence[tuple[tuple[str, ...], str]] = (
    (
        (
            *("DYNAMIC_METADATA", "CLUSTER_METADATA", "UPSTREAM_METADATA", "METADATA"),
            *("FILTER_STATE", "UPSTREAM_FILTER_STATE", "CUSTOM_FLAGS"),
        ),
        "it shows what Envoy's filters keep. CEL shows attributes, such as %CEL(source.workload)%",
    ),
    (
        (
            *("DOWNSTREAM_WIRE_", "DOWNSTREAM_HEADER_", "DOWNSTREAM_DECOMPRESSED_", "BYTES_RETRANSMITTED"),
            *("UPSTREAM_WIRE_", "UPSTREAM_HEADER_", "UPSTREAM_DECOMPRESSED_", "PACKETS_RETRANSMITTED"),
        ),
        "bytes are not counted as they are on the wire. Use BYTES_RECEIVED, BYTES_SENT, REQUEST_HEADERS_BYTES and "
        "RESPONSE_HEADERS_BYTES",
    ),
    (
        (
            *("DOWNSTREAM_TLS_", "DOWNSTREAM_PEER_", "DOWNSTREAM_LOCAL_", "DOWNSTREAM_HANDSHAKE_", "TLS_JA"),
            *("UPSTREAM_TLS_", "UPSTREAM_PEER_", "UPSTREAM_LOCAL_", "UPSTREAM_SERVER_NAME", "DOWNSTREAM_TRANSPORT_"),
        ),
        "requests go through tunnels, and have no TLS session or socket of their own. DOWNSTREAM_PEER_URI_SAN and "
        "UPSTREAM_PEER_URI_SAN show the identities",
    ),
    (
        (
            *("CONNECTION_ID", "UPSTREAM_CONNECTION_", "UPSTREAM_DETECTED_", "DOWNSTREAM_DETECTED_"),
            *("DOWNSTREAM_CX_RTT", "DOWNSTREAM_DIRECT_LOCAL_", "ROUNDTRIP_DURATION"),
        ),
        "requests go through tunnels, and have no TCP connection of their own. DOWNSTREAM_REMOTE_ADDRESS shows the "
        "client",
    ),
    (("UPSTREAM_HOST_NAME", "UPSTREAM_HOSTS_"), "UPSTREAM_HOST shows the last endpoint, and a trace each attempt"),
    (("REQUEST_TX_DURATION",), "it is not known when the last byte left. Use REQUEST_DURATION"),
    (("VIRTUAL_CLUSTER_NAME", "FILTER_CHAIN_NAME"), "a waypoint has none. Use ROUTE_NAME and UPSTREAM_CLUSTER"),
    (("LOCAL_REPLY_BODY",), "bodies are not kept. RESPONSE_CODE_DETAILS says why the waypoint answered"),
    (("ENVIRONMENT",), "variables hold secrets. HOSTNAME shows the pod's name"),
)
"""Envoy's operators that have no meaning here, by how they begin, and what the operator learns about them."""


def _header(of: Callable[[ExchangeRecord], Sequence[Header]], known: Mapping[str, Read]) -> Callable[[str], Read]:
    def operator(argument: str) -> Read:
        names = argument.lower().split("?")
        if not all(names) or len(names) > 2:
            raise InvalidFormat("its argument is a header's name, or two with a ? between them")
        reads = [known.get(name) or _lookup(of, name.encode()) for name in names]
        if len(reads) == 1 or names[0] == "x-envoy-original-path":  # the record has the path before any rewrite
            return reads[-1]
        return lambda record: next((value for read in reads if (value := read(record)) is not None), None)

    return operator


def _lookup(of: Callable[[ExchangeRecord], Sequence[Header]], wanted: bytes) -> Read:
    def read(record: ExchangeRecord) -> Value:
        for name, value in of(record):
            if name == wanted:
                return value.decode("latin-1")
        return None

    return read


def _without_query(argument: str) -> Read:
    read = _WITH_ARGUMENT["REQ"](argument)
    return lambda record: value.partition("?")[0] if isinstance(value := read(record), str) else value


def _path(argument: str) -> Read:
    query, _, which = argument.partition(":")
    if query not in {"", "WQ", "NQ"} or which not in {"", "ORIG_OR_PATH"}:
        raise InvalidFormat("its argument is WQ or NQ: the path is that of the client, whatever a route makes of it")
    if query != "NQ":
        return _OWN[":path"]
    return lambda record: _decoded(record.original_target.partition(b"?")[0])


def _query(argument: str) -> Read:
    if argument not in {"", "ORIG", "DECODED"}:
        raise InvalidFormat("its argument is ORIG or DECODED")
    if argument != "DECODED":
        return lambda record: _decoded(record.original_target.partition(b"?")[2])
    return lambda record: _decoded(_ENCODED.sub(_visible, record.original_target.partition(b"?")[2]))


def _visible(match: re.Match[bytes]) -> bytes:
    """Decode what is a visible letter of ASCII, as Envoy does: the rest stays encoded."""
    letter = bytes.fromhex(match[1].decode())
    return letter if b"!" <= letter <= b"~" else match[0]


def _query_parameter(argument: str) -> Read:
    if not argument:
        raise InvalidFormat("its argument is a parameter's name")
    wanted = argument.encode()

    def read(record: ExchangeRecord) -> Value:
        for part in record.original_target.partition(b"?")[2].split(b"&"):
            name, _, value = part.partition(b"=")
            if unquote_to_bytes(name) == wanted:
                return unquote_to_bytes(value).decode("latin-1")
        return None

    return read


def _decoded(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value else None


_OWN: Mapping[str, Read] = {
    ":method": lambda record: _decoded(record.method),
    ":path": lambda record: _decoded(record.original_target),
    ":authority": lambda record: _decoded(record.authority),
    "user-agent": lambda record: _decoded(record.user_agent),
    "x-forwarded-for": lambda record: _decoded(record.x_forwarded_for),
    "x-request-id": lambda record: _decoded(record.request_id),
}
"""The parts of a request that the record has outside its headers."""


def _size(headers: Iterable[Header]) -> int:
    """The bytes of names and values, as Envoy counts them."""
    return sum(len(name) + len(value) for name, value in headers)


def _request_size(record: ExchangeRecord) -> int:
    if not record.method:
        return 0
    authority = record.authority or b""
    pseudo = ((b":method", record.method), (b":path", record.original_target), (b":authority", authority))
    return _size((*pseudo, (b":scheme", b"http"), *record.headers))


def _response_size(record: ExchangeRecord) -> int:
    return _size(((b":status", b"200"), *record.response_headers)) if record.status else 0


# -- times -------------------------------------------------------------------------------------------------------------


def _time(
    of: Callable[[ExchangeRecord], float], split: Callable[[float], time.struct_time], default: str
) -> Callable[[str], Read]:
    def operator(argument: str) -> Read:
        return lambda record: _formatted(of(record), split, argument or default)

    return operator


def _formatted(seconds: float, split: Callable[[float], time.struct_time], pattern: str) -> str:
    nanoseconds = f"{min(round(seconds % 1 * 1e6), 999_999):06d}000"
    pattern = _FRACTION.sub(lambda match: nanoseconds[: int(match[1] or 9)], pattern)
    return time.strftime(pattern.replace("%s", str(int(seconds))), split(seconds))


def _start_time(argument: str) -> Read:
    if not argument:
        return lambda record: START_TIME.format(record.started_at).decode()
    return _time(_began, time.gmtime, argument)(argument)


def _began(record: ExchangeRecord) -> float:
    return record.started_at


def _now(record: ExchangeRecord) -> float:
    return time.time()


_UTC = "%Y-%m-%dT%H:%M:%S.%3fZ"
_LOCAL = "%Y-%m-%dT%H:%M:%S.%3f%z"
_MOMENTS: Mapping[str, Callable[[ExchangeRecord], float | None]] = {
    "DS_RX_BEG": lambda record: 0.0,
    "DS_RX_END": lambda record: record.request_ms,
    "US_RX_BEG": lambda record: record.response_ms,
    "DS_TX_END": lambda record: record.duration_ms,
}
"""Envoy's names of the moments that the record has, in milliseconds after the first."""
_PRECISIONS = {"ms": 1, "us": 1_000, "ns": 1_000_000}


def _between(argument: str) -> Read:
    match argument.split(":"):
        case [first, last, unit] if first in _MOMENTS and last in _MOMENTS and unit in _PRECISIONS:
            return _duration(_MOMENTS[first], _MOMENTS[last], _PRECISIONS[unit])
    raise InvalidFormat(
        f"its argument is two of {', '.join(_MOMENTS)} and one of {', '.join(_PRECISIONS)}, with colons between them"
    )


def _duration(
    first: Callable[[ExchangeRecord], float | None], last: Callable[[ExchangeRecord], float | None], factor: int = 1
) -> Read:
    def read(record: ExchangeRecord) -> Value:
        begin, end = first(record), last(record)
        return int((end - begin) * factor) if begin is not None and end is not None and end >= begin else None

    return read


# -- the rest ----------------------------------------------------------------------------------------------------------


def _cel(argument: str) -> Read:
    expression = Expression.compile(argument, ATTRIBUTES)
    return expression.value


def _grpc_status(argument: str) -> Read:
    names: Sequence[Value] = _GRPC_NAMES
    match argument:
        case "NUMBER":
            names = range(len(_GRPC_NAMES))
        case "SNAKE_STRING":
            names = [_WORD.sub("_", it).upper() for it in _GRPC_NAMES]
        case "" | "CAMEL_STRING":
            pass
        case _:
            raise InvalidFormat("its argument is CAMEL_STRING, SNAKE_STRING or NUMBER")
    return lambda record: names[int(code)] if (code := grpc_code(record.grpc_status)) else None


def _downstream_peer(record: ExchangeRecord) -> Value:
    return str(record.peer.identity) if record.peer.identity is not None else None


def _upstream_peer(record: ExchangeRecord) -> Value:
    return str(record.endpoint.identity) if record.endpoint is not None and record.endpoint.identity else None


def _long_flags(record: ExchangeRecord) -> str:
    return ",".join(_LONG_FLAGS[it] for it in record.flags) or "-"


def _hostname(argument: str) -> Read:
    if argument:
        raise InvalidFormat("it takes no argument")
    name = socket.gethostname()
    return lambda record: name


_PLAIN: Mapping[str, Read] = {
    "PROTOCOL": lambda record: record.protocol or None,
    "UPSTREAM_PROTOCOL": lambda record: (record.endpoint and record.upstream_protocol) or None,
    "ACCESS_LOG_TYPE": lambda record: "DownstreamEnd" if record.protocol else "TcpConnectionEnd",
    "RESPONSE_CODE": lambda record: record.status,
    "RESPONSE_FLAGS": lambda record: flags_text(record.flags),
    "RESPONSE_FLAGS_LONG": _long_flags,
    "RESPONSE_CODE_DETAILS": lambda record: record.detail.replace(" ", "_") or None,
    "CONNECTION_TERMINATION_DETAILS": lambda record: record.connection_termination_details.replace(" ", "_") or None,
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda record: record.upstream_transport_failure_reason or None,
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda record: record.attempts,
    "BYTES_RECEIVED": lambda record: record.bytes_received,
    "BYTES_SENT": lambda record: record.bytes_sent,
    "REQUEST_HEADERS_BYTES": _request_size,
    "RESPONSE_HEADERS_BYTES": _response_size,
    "RESPONSE_TRAILERS_BYTES": lambda record: _size(record.response_trailers),
    "DURATION": lambda record: int(record.duration_ms),
    "REQUEST_DURATION": _duration(_MOMENTS["DS_RX_BEG"], _MOMENTS["DS_RX_END"]),
    "RESPONSE_DURATION": _duration(_MOMENTS["DS_RX_BEG"], _MOMENTS["US_RX_BEG"]),
    "RESPONSE_TX_DURATION": _duration(_MOMENTS["US_RX_BEG"], _MOMENTS["DS_TX_END"]),
    "UPSTREAM_HOST": lambda record: _unless_dash(upstream_of(record.endpoint)[0]),
    "UPSTREAM_REMOTE_ADDRESS": lambda record: (
        host_port(record.endpoint.ip, record.endpoint.port) if record.endpoint is not None else None
    ),
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda record: record.endpoint.ip if record.endpoint is not None else None,
    "UPSTREAM_REMOTE_PORT": lambda record: record.endpoint.port if record.endpoint is not None else None,
    "UPSTREAM_LOCAL_ADDRESS": lambda record: _unless_dash(upstream_of(record.endpoint)[1]),
    "UPSTREAM_PEER_URI_SAN": _upstream_peer,
    "UPSTREAM_CLUSTER": lambda record: record.cluster,
    "UPSTREAM_CLUSTER_RAW": lambda record: record.cluster,
    "DOWNSTREAM_LOCAL_ADDRESS": lambda record: host_port(*record.downstream_local),
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda record: record.downstream_local[0],
    "DOWNSTREAM_LOCAL_PORT": lambda record: record.downstream_local[1],
    "DOWNSTREAM_REMOTE_ADDRESS": lambda record: host_port(record.peer.ip, record.peer.port),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda record: record.peer.ip,
    "DOWNSTREAM_REMOTE_PORT": lambda record: record.peer.port,
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": lambda record: host_port(record.peer.ip, record.peer.port),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": lambda record: record.peer.ip,
    "DOWNSTREAM_DIRECT_REMOTE_PORT": lambda record: record.peer.port,
    "DOWNSTREAM_PEER_URI_SAN": _downstream_peer,
    "REQUESTED_SERVER_NAME": lambda record: record.requested_server_name or None,
    "ROUTE_NAME": lambda record: record.route_name or None,
    "GRPC_STATUS_NUMBER": _grpc_status("NUMBER"),
    "STREAM_ID": lambda record: record.request_id.decode("latin-1") if record.request_id else None,
    "UNIQUE_ID": lambda record: str(uuid4()),
    "TRACE_ID": lambda record: record.span.trace_id if record.span is not None else None,
    "SPAN_ID": lambda record: f"{record.span.context.span_id:016x}" if record.span is not None else None,
    "AUDIT": lambda record: ",".join(it.name for it in record.verdict.audited) or None if record.verdict else None,
    "DRY_RUN": lambda record: ",".join(map(str, record.verdict.shadow)) or None if record.verdict else None,
}
_WITH_ARGUMENT: Mapping[str, Callable[[str], Read]] = {
    "START_TIME": _start_time,
    "START_TIME_LOCAL": _time(_began, time.localtime, _LOCAL),
    "EMIT_TIME": _time(_now, time.gmtime, _UTC),
    "EMIT_TIME_LOCAL": _time(_now, time.localtime, _LOCAL),
    "COMMON_DURATION": _between,
    "REQ": _header(lambda record: record.headers, _OWN),
    "REQ_WITHOUT_QUERY": _without_query,
    "PATH": _path,
    "QUERY_PARAM": _query_parameter,
    "QUERY_PARAMS": _query,
    "RESP": _header(lambda record: record.response_headers, {}),
    "TRAILER": _header(lambda record: record.response_trailers, {}),
    "GRPC_STATUS": _grpc_status,
    "HOSTNAME": _hostname,
    "CEL": _cel,
}


def _unless_dash(text: str) -> str | None:
    return None if text == "-" else text
