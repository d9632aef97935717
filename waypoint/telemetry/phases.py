"""A span for each thing that a traced request waits for: an authorizer, a rate limit service."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from waypoint.telemetry.record import ExchangeRecord

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Span


@contextmanager
def phase(record: ExchangeRecord | None, name: str) -> "Iterator[Span | None]":
    """Yield the span of a phase; None for a request that is not traced."""
    if record is None or record.span is None:
        yield None
        return
    span = record.span.child(name)
    try:
        yield span
    finally:
        span.finish()
