"""The tracers of a process: its own one, and one for each collector that Telemetry objects name.

The OpenTelemetry SDK costs 0.1 s and 3 MiB, with gRPC 11, so it is imported only if there is a collector.
"""

from collections.abc import Iterable, Mapping, Set
from threading import Thread

from policies.telemetry import Collector
from waypoint.telemetry.dropped_spans import DroppedSpans
from waypoint.telemetry.spans import Tracer
from waypoint.telemetry.tracing_settings import TracingSettings


def start_tracer(settings: TracingSettings | None, dropped: DroppedSpans | None = None) -> Tracer | None:
    if settings is None:
        return None
    from waypoint.telemetry.span_export import SpanExport

    return Tracer(settings, SpanExport(settings, dropped or DroppedSpans()))


class Tracers:
    """`own` is None without a collector in the environment, `others` are by their collectors; `dropped` is of all."""

    def __init__(
        self, environment: Mapping[str, str], service_name: str, tags: Mapping[str, str], readable: Iterable[str] = ()
    ) -> None:
        """`readable` are variables that Telemetry objects may read. Raises InvalidTracing."""
        self.dropped = DroppedSpans()
        self.own = start_tracer(TracingSettings.parse(environment, service_name, tags, readable), self.dropped)
        self.others: dict[Collector, Tracer] = {}
        self._settings = TracingSettings.of_collectors(environment, service_name, tags, readable)

    def reconcile(self, collectors: Set[Collector]) -> None:
        """Send spans to these collectors. What waits for others is still sent, in the background."""
        for gone in self.others.keys() - collectors:
            Thread(target=self.others.pop(gone).close, name="tracer-close", daemon=True).start()
        for new in collectors - self.others.keys() if self._settings is not None else ():
            assert self._settings is not None
            tracer = start_tracer(self._settings.at(new), self.dropped)
            assert tracer is not None
            self.others[new] = tracer

    def close(self) -> None:
        """Export queued spans, and wait for a few seconds at most. Blocks, so call it in a thread."""
        closing = [Thread(target=it.close, daemon=True) for it in (self.own, *self.others.values()) if it is not None]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
