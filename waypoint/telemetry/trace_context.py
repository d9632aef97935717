"""The header `traceparent` of W3C Trace Context, parsed and formatted.

The other side wrote it, so it may link a span but must not affect any decision. A malformed one counts as absent.
"""

import re
from dataclasses import dataclass

SAMPLED = 0x01
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class TraceParent:
    """`is_decided` is False if the caller leaves it to others whether the trace is sampled."""

    trace_id: int
    span_id: int
    flags: int
    is_decided: bool = True

    @property
    def is_sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


def parse_traceparent(value: bytes) -> TraceParent | None:
    """Parse `<version>-<trace id>-<parent id>-<flags>`. Returns None if it is malformed or an id is zero."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    return TraceParent(trace_id, span_id, flags)


def format_traceparent(parent: TraceParent) -> bytes:
    return b"00-%032x-%016x-%02x" % (parent.trace_id, parent.span_id, parent.flags)
