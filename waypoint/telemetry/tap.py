"""Live requests for an operator: `waypoint tap` and the page `/tap`.

A `Tap` takes each finished request that its filter wants, and keeps at most `MAX_WAITING` until the operator's
connection takes them. What does not fit is dropped and counted, so that a slow operator never holds up a request.
Credentials are redacted as in recordings.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from typing import Protocol

from l4.telemetry.access_log import StartTime
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, WorkloadLabels
from policies.host_port import host_port
from waypoint.telemetry.record import ExchangeRecord
from waypoint.telemetry.redaction import redacted_headers, redacted_target
from waypoint.telemetry.trace_context import parse_traceparent

MAX_WAITING = 1000
MAX_CONDITIONS = 32
MAX_CONDITION = 256

_format_time = StartTime().format


class InvalidFilter(Exception):
    """A condition cannot be understood. The message is a sentence."""


class Watcher(Protocol):
    """Somebody who looks at finished requests."""

    def take(self, record: ExchangeRecord, hidden: frozenset[bytes]) -> None:
        """Look at one request. `hidden` are the names of headers and parameters that carry this service's tokens."""


@dataclass(frozen=True, slots=True)
class Filter:
    """All conditions must hold. Those of one name are alternatives, except for headers."""

    conditions: tuple[Callable[[ExchangeRecord], bool], ...] = ()
    shown: frozenset[bytes] = frozenset()
    """Names of request headers to show."""

    @classmethod
    def parse(cls, asked: Iterable[tuple[str, str]]) -> "Filter":
        """Return the filter for names and values, as in a query. Raises InvalidFilter."""
        alternatives: dict[str, list[Callable[[ExchangeRecord], bool]]] = {}
        shown = []
        for number, (name, value) in enumerate(asked):
            if number >= MAX_CONDITIONS or len(value) > MAX_CONDITION:
                raise InvalidFilter(f"at most {MAX_CONDITIONS} conditions of {MAX_CONDITION} characters are possible")
            if name == "show":
                shown.append(value.strip().lower().encode())
            elif name in _CONDITIONS:
                key = f"{name} {number}" if name == "header" else name
                alternatives.setdefault(key, []).append(_CONDITIONS[name](value))
            else:
                raise InvalidFilter(f"there is no condition {name!r}; there are {', '.join((*_CONDITIONS, 'show'))}")
        return cls(tuple(map(_any, alternatives.values())), frozenset(shown))

    def wants(self, record: ExchangeRecord) -> bool:
        return all(condition(record) for condition in self.conditions)


EVERYTHING = Filter()


class Tap:
    """Finished requests that wait for one operator. `dropped` counts those that did not fit."""

    def __init__(self, wanted: Filter) -> None:
        self.dropped = 0
        self._filter = wanted
        self._waiting: deque[tuple[ExchangeRecord, frozenset[bytes]]] = deque()
        self._arrived = asyncio.Event()

    def take(self, record: ExchangeRecord, hidden: frozenset[bytes]) -> None:
        if not self._filter.wants(record):
            return
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
        else:
            self._waiting.append((record, hidden))
        self._arrived.set()

    async def wait(self) -> None:
        """Wait until `events` has something to give."""
        await self._arrived.wait()

    def events(self) -> list[dict[str, object]]:
        """Return what has arrived since the last call, as plain values."""
        self._arrived.clear()
        found = [event(record, self._filter.shown, hidden) for record, hidden in self._waiting]
        self._waiting.clear()
        return found


def is_tcp(record: ExchangeRecord) -> bool:
    """Whether the record is of an opaque connection."""
    return not record.method and not record.status


def event(
    record: ExchangeRecord, shown: frozenset[bytes] = frozenset(), hidden: frozenset[bytes] = frozenset()
) -> dict[str, object]:
    """Return a finished request as plain values."""
    r = record
    destination = r.endpoint.workload if r.endpoint is not None else UNKNOWN_WORKLOAD
    verdict = r.verdict
    headers = redacted_headers([it for it in r.headers if it[0] in shown], hidden) if shown else ()
    return {
        "type": "connection" if is_tcp(r) else "request",
        "time": _format_time(r.started_at).decode(),
        "method": _text(r.method),
        "authority": _text(r.authority),
        "path": _text(redacted_target(r.original_target, hidden)),
        "protocol": r.protocol or ("TCP" if is_tcp(r) else ""),
        "status": r.status,
        "grpc_status": r.grpc_status,
        "flags": list(r.flags),
        "detail": r.detail,
        "reason": r.upstream_transport_failure_reason or r.connection_termination_details,
        "duration_ms": round(r.duration_ms, 3),
        "upstream_service_time_ms": r.upstream_service_time_ms,
        "bytes_received": r.bytes_received,
        "bytes_sent": r.bytes_sent,
        "source": {
            "address": host_port(r.peer.ip, r.peer.port),
            "workload": r.source.workload,
            "namespace": r.source.namespace,
            "identity": str(r.peer.identity or ""),
        },
        "destination": {
            "service": r.service.hostname,
            "port": r.downstream_local[1],
            "called": host_port(*r.downstream_local),
            "workload": destination.workload,
            "namespace": destination.namespace,
            "endpoint": str(r.endpoint) if r.endpoint is not None else "",
            "cluster": r.cluster or "",
        },
        "route": r.route_name,
        "authorization": None
        if verdict is None
        else {
            "is_allowed": verdict.is_allowed,
            "policy": str(verdict.rule.policy) if verdict.rule is not None else "",
            "audited": [it.name for it in verdict.audited],
            "dry_run": list(map(str, verdict.shadow)),
        },
        "request_id": _text(r.request_id),
        "trace_id": _trace_id(r),
        "headers": [list(it) for it in headers],
    }


def _text(value: bytes | None) -> str:
    return (value or b"").decode("latin-1")


def _trace_id(record: ExchangeRecord) -> str:
    sent = next((value for name, value in record.headers if name == b"traceparent"), None)
    parent = parse_traceparent(sent) if sent is not None else None
    return f"{parent.trace_id:032x}" if parent is not None else ""


# -- conditions ------------------------------------------------------------------------------------------------------


def _any(conditions: list[Callable[[ExchangeRecord], bool]]) -> Callable[[ExchangeRecord], bool]:
    return conditions[0] if len(conditions) == 1 else lambda record: any(it(record) for it in conditions)


def _pattern(text: str) -> Callable[[str], object]:
    """`*` and `?` are wildcards, and nothing else is."""
    return re.compile(translate(text.replace("[", "[[]"))).match


def _method(value: str) -> Callable[[ExchangeRecord], bool]:
    wanted = value.upper().encode()
    return lambda record: record.method == wanted


def _path(value: str) -> Callable[[ExchangeRecord], bool]:
    matches, has_query = _pattern(value), "=" in value

    def condition(record: ExchangeRecord) -> bool:
        target = record.original_target if has_query else record.original_target.partition(b"?")[0]
        return matches(_text(target)) is not None

    return condition


def _status(value: str) -> Callable[[ExchangeRecord], bool]:
    """`503`, `5xx`, `400-499`, or `0` for no answer."""
    low, dash, high = value.lower().replace("xx", "00").partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        raise InvalidFilter(f"status {value!r} is not of the form 503, 5xx or 400-499; 0 is no answer")
    first = int(low)
    last = int(high) if dash else first + 99 if value.lower().endswith("xx") else first
    if not (first == last == 0 or 100 <= first <= last <= 599):
        raise InvalidFilter(f"status {value!r} is never answered; there are 100 to 599, and 0 for no answer")
    return lambda record: first <= record.status <= last


def _slower(value: str) -> Callable[[ExchangeRecord], bool]:
    try:
        least = float(value)
    except ValueError:
        raise InvalidFilter(f"slower {value!r} is not a number of milliseconds, such as 250") from None
    if not least >= 0:
        raise InvalidFilter(f"slower {value!r} is not a number of milliseconds, such as 250")
    return lambda record: record.duration_ms >= least


def _source(value: str) -> Callable[[ExchangeRecord], bool]:
    matches = _pattern(value)

    def condition(record: ExchangeRecord) -> bool:
        names = (*_workload(record.source), str(record.peer.identity or ""), record.peer.ip)
        return any(map(matches, names))

    return condition


def _destination(value: str) -> Callable[[ExchangeRecord], bool]:
    matches = _pattern(value)

    def condition(record: ExchangeRecord) -> bool:
        service, endpoint = record.service, record.endpoint
        names = [service.hostname, service.name, f"{service.name}.{service.namespace}"]
        names.append(f"{service.namespace}/{service.name}")
        if endpoint is not None:
            names += (*_workload(endpoint.workload), endpoint.ip, str(endpoint))
        return any(map(matches, names))

    return condition


def _workload(labels: WorkloadLabels) -> Iterator[str]:
    yield labels.workload
    yield f"{labels.namespace}/{labels.workload}"
    yield labels.app


def _route(value: str) -> Callable[[ExchangeRecord], bool]:
    matches = _pattern(value)
    return lambda record: matches(record.route_name) is not None


def _header(value: str) -> Callable[[ExchangeRecord], bool]:
    """`NAME` for any value, or `NAME:VALUE` with wildcards."""
    name, colon, text = value.partition(":")
    wanted = name.strip().lower().encode()
    if not wanted:
        raise InvalidFilter(f"header {value!r} is not of the form NAME or NAME:VALUE")
    matches = _pattern(text.strip() if colon else "*")
    return lambda record: any(name == wanted and matches(_text(it)) for name, it in record.headers)


_CONDITIONS: dict[str, Callable[[str], Callable[[ExchangeRecord], bool]]] = {
    "method": _method,
    "path": _path,
    "status": _status,
    "slower": _slower,
    "source": _source,
    "destination": _destination,
    "route": _route,
    "header": _header,
}
