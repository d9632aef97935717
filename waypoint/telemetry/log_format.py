"""Formats of access log lines: Envoy's format strings, and JSON objects of them.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
A format is parsed once. Text is escaped, so that a client cannot forge a line or a field; `-` stands for missing
values, and null in JSON. `waypoint.telemetry.log_operators` has the operators.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from policies.cel import InvalidExpression, Value, text_of
from waypoint.telemetry.access_line import escaped
from waypoint.telemetry.log_operators import InvalidFormat, Read, operator
from waypoint.telemetry.record import ExchangeRecord

MAX_FORMAT = 16 << 10
_OPERATOR = re.compile(r"%(?:%|([A-Z0-9_]+)(?:\((.*?)\))?(?::(\d{1,5}))?%)", re.DOTALL)


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
            is_printable = text.isascii() and text.find(b"\x7f") < 0
            return (text.decode("ascii") if is_printable else json.dumps(found, separators=(",", ":"))) + "\n"

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
    try:
        return operator(name, argument)
    except (InvalidExpression, InvalidFormat) as error:
        raise InvalidFormat(f"%{name}% at character {place}: {error}") from None


def _shortened(read: Read, length: int) -> Read:
    def shortened(record: ExchangeRecord) -> Value:
        value = read(record)
        return value[:length] if isinstance(value, str) else value

    return shortened


def _plain(value: Value) -> str:
    return "-" if value is None else text_of(value)


def _escaped(value: Value) -> str:
    return escaped(value.encode("latin-1", "backslashreplace")) if isinstance(value, str) else _plain(value)


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
