"""Formats of access log lines: Envoy's format strings, and JSON objects of them.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
A format is parsed once. Text is escaped, so that a client cannot forge a line or a field; `-` stands for missing
values, and null in JSON. `%CEL(…)%` takes the expressions of `waypoint.telemetry.attributes`. Envoy has no operators
`%AUDIT%` and `%DRY_RUN%`: they show what policies that audit, or are on trial, say.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from policies.attributes import Header
from policies.cel import Expression, InvalidExpression, Value, text_of
from policies.host_port import host_port
from waypoint.telemetry.access_line import START_TIME, escaped, upstream_of
from waypoint.telemetry.attributes import ATTRIBUTES
from waypoint.telemetry.record import ExchangeRecord, flags_text, grpc_code

MAX_FORMAT = 16 << 10
_OPERATOR = re.compile(r"%(?:%|([A-Z0-9_]+)(?:\((.*?)\))?(?::(\d{1,5}))?%)", re.DOTALL)
_FRACTION = re.compile(r"%([1-9]?)f")
_GRPC_NAMES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)

Read = Callable[[ExchangeRecord], Value]


class InvalidFormat(ValueError):
    """The format cannot be understood. The message says what, and where."""


@dataclass(frozen=True, slots=True)
class LogFormat:
    """`written` is the format as the configuration has it."""

    written: str
    _line: Callable[[ExchangeRecord], str] = field(repr=False, compare=False)

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Parse a format string. Raises InvalidFormat."""
        read = parse(text)
        end = "" if text.endswith("\n") else "\n"
        return cls(text, lambda record: text_with(read, record) + end)

    @classmethod
    def of_labels(cls, labels: Mapping[str, Any], *, omits_empty: bool = False) -> Self:
        """Parse the fields of a JSON object. Raises InvalidFormat."""
        fields = _fields(labels, omits_empty)

        def line(record: ExchangeRecord) -> str:
            found = fields(record)
            text = msgspec.json.encode(found)
            # The log's file is latin-1, so that other letters are escaped.
            return (text.decode("ascii") if text.isascii() else json.dumps(found, separators=(",", ":"))) + "\n"

        return cls(json.dumps(labels) + str(omits_empty), line)

    def line(self, record: ExchangeRecord) -> str:
        return self._line(record)


@dataclass(frozen=True, slots=True)
class Pieces:
    """A parsed format string: texts, and what to read between them."""

    pieces: tuple[str | Read, ...]

    def value(self, record: ExchangeRecord) -> Value:
        """Return the value of a lone operator with its type, else the text without escapes."""
        if len(self.pieces) == 1 and not isinstance(self.pieces[0], str):
            return self.pieces[0](record)
        return "".join(it if isinstance(it, str) else _plain(it(record)) for it in self.pieces)


def parse(text: str) -> Pieces:
    """Raises InvalidFormat."""
    if len(text) > MAX_FORMAT:
        raise InvalidFormat(f"the format is longer than {MAX_FORMAT} characters")
    return Pieces(tuple(_pieces(text)))


def text_with(parsed: Pieces, record: ExchangeRecord) -> str:
    """Return the text for a line, with escaped values."""
    return "".join(it if isinstance(it, str) else _escaped(it(record)) for it in parsed.pieces)


def _fields(labels: Mapping[str, Any], omits_empty: bool) -> Read:
    """Return what reads an object."""
    reads: list[tuple[str, Read]] = []
    for name, label in labels.items():
        match label:
            case str():
                try:
                    parsed = parse(label)
                except InvalidFormat as error:
                    raise InvalidFormat(f"{name}: {error}") from None
                [lone, *more] = parsed.pieces or ("",)
                reads.append((name, parsed.value if more or isinstance(lone, str) else lone))
            case Mapping():
                reads.append((name, _fields(label, omits_empty)))
            case _:
                reads.append((name, _constant(label)))
    if not omits_empty:
        return lambda record: {name: read(record) for name, read in reads}
    return lambda record: {name: value for name, read in reads if (value := read(record)) is not None}


def _constant(value: Value) -> Read:
    return lambda record: value


def _pieces(text: str) -> Iterator[str | Read]:
    at = 0
    for match in _OPERATOR.finditer(text):
        yield from _literal(text, at, match.start())
        at = match.end()
        if match[0] == "%%":
            yield "%"
            continue
        read = _operator(match[1], match[2], match.start() + 1)
        yield _shortened(read, int(match[3])) if match[3] else read
    yield from _literal(text, at, len(text))


def _literal(text: str, begin: int, end: int) -> Iterator[str]:
    literal = text[begin:end]
    if "%" in literal:
        place = begin + literal.index("%") + 1
        raise InvalidFormat(f"at character {place}: {text[place - 1 : place + 19]!r} is no operator of the form %NAME%")
    if literal:
        yield literal


def _operator(name: str, argument: str | None, place: int) -> Read:
    if name in _PLAIN and argument is None:
        return _PLAIN[name]
    if name in _WITH_ARGUMENT:
        try:
            return _WITH_ARGUMENT[name](argument or "")
        except (InvalidExpression, InvalidFormat) as error:
            raise InvalidFormat(f"%{name}% at character {place}: {error}") from None
    what = "takes no argument" if name in _PLAIN else "is no operator that is known here"
    raise InvalidFormat(f"%{name}% at character {place} {what}")


def _shortened(read: Read, length: int) -> Read:
    def shortened(record: ExchangeRecord) -> Value:
        value = read(record)
        return value[:length] if isinstance(value, str) else value

    return shortened


def _plain(value: Value) -> str:
    return "-" if value is None else text_of(value)


def _escaped(value: Value) -> str:
    return escaped(value.encode("latin-1", "backslashreplace")) if isinstance(value, str) else _plain(value)


# -- operators ---------------------------------------------------------------------------------------------------------


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


def _start_time(argument: str) -> Read:
    if not argument:
        return lambda record: START_TIME.format(record.started_at).decode()

    def read(record: ExchangeRecord) -> str:
        nanoseconds = f"{min(round(record.started_at % 1 * 1e6), 999_999):06d}000"
        pattern = _FRACTION.sub(lambda match: nanoseconds[: int(match[1] or 9)], argument)
        pattern = pattern.replace("%s", str(int(record.started_at)))
        return time.strftime(pattern, time.gmtime(record.started_at))

    return read


def _cel(argument: str) -> Read:
    expression = Expression.compile(argument, ATTRIBUTES)
    return expression.value


def _grpc_status(argument: str) -> Read:
    if argument not in {"", "CAMEL_STRING", "NUMBER"}:
        raise InvalidFormat("its argument is CAMEL_STRING or NUMBER")

    def read(record: ExchangeRecord) -> Value:
        code = grpc_code(record.grpc_status)
        if not code:
            return None
        return int(code) if argument == "NUMBER" else _GRPC_NAMES[int(code)]

    return read


def _downstream_peer(record: ExchangeRecord) -> Value:
    return str(record.peer.identity) if record.peer.identity is not None else None


_PLAIN: Mapping[str, Read] = {
    "PROTOCOL": lambda record: record.protocol or None,
    "RESPONSE_CODE": lambda record: record.status,
    "RESPONSE_FLAGS": lambda record: flags_text(record.flags),
    "RESPONSE_CODE_DETAILS": lambda record: record.detail.replace(" ", "_") or None,
    "CONNECTION_TERMINATION_DETAILS": lambda record: record.connection_termination_details.replace(" ", "_") or None,
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda record: record.upstream_transport_failure_reason or None,
    "BYTES_RECEIVED": lambda record: record.bytes_received,
    "BYTES_SENT": lambda record: record.bytes_sent,
    "DURATION": lambda record: int(record.duration_ms),
    "UPSTREAM_HOST": lambda record: _unless_dash(upstream_of(record.endpoint)[0]),
    "UPSTREAM_REMOTE_ADDRESS": lambda record: (
        host_port(record.endpoint.ip, record.endpoint.port) if record.endpoint is not None else None
    ),
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda record: record.endpoint.ip if record.endpoint is not None else None,
    "UPSTREAM_REMOTE_PORT": lambda record: record.endpoint.port if record.endpoint is not None else None,
    "UPSTREAM_LOCAL_ADDRESS": lambda record: _unless_dash(upstream_of(record.endpoint)[1]),
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
    "DOWNSTREAM_PEER_URI_SAN": _downstream_peer,
    "REQUESTED_SERVER_NAME": lambda record: record.requested_server_name or None,
    "ROUTE_NAME": lambda record: record.route_name or None,
    "GRPC_STATUS_NUMBER": _grpc_status("NUMBER"),
    "STREAM_ID": lambda record: record.request_id.decode("latin-1") if record.request_id else None,
    "TRACE_ID": lambda record: record.span.trace_id if record.span is not None else None,
    "AUDIT": lambda record: ",".join(it.name for it in record.verdict.audited) or None if record.verdict else None,
    "DRY_RUN": lambda record: ",".join(map(str, record.verdict.shadow)) or None if record.verdict else None,
}
_WITH_ARGUMENT: Mapping[str, Callable[[str], Read]] = {
    "START_TIME": _start_time,
    "REQ": _header(lambda record: record.headers, _OWN),
    "RESP": _header(lambda record: record.response_headers, {}),
    "TRAILER": lambda argument: lambda record: None,
    "GRPC_STATUS": _grpc_status,
    "CEL": _cel,
}


def _unless_dash(text: str) -> str | None:
    return None if text == "-" else text


ISTIO_JSON = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""The fields of Istio's log with the encoding JSON."""
