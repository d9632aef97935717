"""How a trace crosses the waypoint: in W3C's `traceparent`, or in Zipkin's B3, as one header or several.

https://www.w3.org/TR/trace-context/ and https://github.com/openzipkin/b3-propagation
All are read, `traceparent` first. Upstream gets `traceparent`, and B3 in the form in which it came. The variable
OTEL_PROPAGATORS names other ones for both. The other side wrote these headers: they may link a span, and must not
affect any decision. A malformed one counts as absent.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

from policies.attributes import Headers
from waypoint.telemetry.trace_context import SAMPLED, TraceParent, format_traceparent, parse_traceparent


class Style(StrEnum):
    """The names are those of OTEL_PROPAGATORS."""

    W3C = "tracecontext"
    B3 = "b3"
    B3_MULTI = "b3multi"


ALL = tuple(Style)
_B3 = re.compile(rb"(?!0+-)([0-9a-f]{32}|[0-9a-f]{16})-(?!0{16})([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?")
_TRACE_ID = re.compile(rb"(?!0+$)(?:[0-9a-f]{32}|[0-9a-f]{16})")
_SPAN_ID = re.compile(rb"(?!0{16})[0-9a-f]{16}")
_YES, _NO = (b"1", b"d", b"true"), (b"0", b"false")
_REFUSED = TraceParent(0, 0, 0)
"""A caller that names no trace, and wants none."""


def is_named(fields: dict[bytes, bytes]) -> bool:
    """Whether a request may name a trace, or refuse one. Most do not."""
    return b"traceparent" in fields or b"b3" in fields or b"x-b3-traceid" in fields or b"x-b3-sampled" in fields


def extract(fields: Mapping[bytes, bytes], styles: tuple[Style, ...] = ALL) -> tuple[TraceParent | None, Style | None]:
    """Return the caller's trace and the form in which it came. The trace's id is 0 if the caller only refuses one."""
    for style in styles:
        match style:
            case Style.W3C:
                value = fields.get(b"traceparent")
                found = parse_traceparent(value) if value else None
            case Style.B3:
                value = fields.get(b"b3")
                found = _parse_b3(value) if value else None
            case Style.B3_MULTI:
                found = _parse_b3_multi(fields)
        if found is not None:
            return found, style
    return None, None


def inject(headers: Headers, context: TraceParent, styles: tuple[Style, ...]) -> None:
    """Name this trace and span in `headers`, in place of others. Headers keep their positions."""
    for style in styles:
        match style:
            case Style.W3C:
                _put(headers, b"traceparent", format_traceparent(context))
            case Style.B3:
                sampled = b"1" if context.is_sampled else b"0"
                _put(headers, b"b3", b"%032x-%016x-%b" % (context.trace_id, context.span_id, sampled))
            case Style.B3_MULTI:
                _put(headers, b"x-b3-traceid", b"%032x" % context.trace_id)
                _put(headers, b"x-b3-spanid", b"%016x" % context.span_id)
                _put(headers, b"x-b3-sampled", b"1" if context.is_sampled else b"0")


def _put(headers: Headers, name: bytes, value: bytes) -> None:
    for index, (its, _) in enumerate(headers):
        if its == name:
            headers[index] = (name, value)
            return
    headers.insert(0, (name, value))  # the last one counts attempts


def _parse_b3(value: bytes) -> TraceParent | None:
    if value == b"0":
        return _REFUSED
    match = _B3.fullmatch(value)
    if match is None:
        return None
    return _parent(match[1], match[2], match[3])


def _parse_b3_multi(fields: Mapping[bytes, bytes]) -> TraceParent | None:
    trace_id, span_id = fields.get(b"x-b3-traceid"), fields.get(b"x-b3-spanid")
    sampled = b"1" if fields.get(b"x-b3-flags") == b"1" else fields.get(b"x-b3-sampled")
    if trace_id is None or span_id is None:
        return _REFUSED if sampled in _NO else None
    if not _TRACE_ID.fullmatch(trace_id) or not _SPAN_ID.fullmatch(span_id):
        return None
    return _parent(trace_id, span_id, sampled)


def _parent(trace_id: bytes, span_id: bytes, sampled: bytes | None) -> TraceParent:
    is_decided = sampled in _YES or sampled in _NO
    return TraceParent(int(trace_id, 16), int(span_id, 16), SAMPLED if sampled in _YES else 0, is_decided)
