"""Send spans to a collector by OTLP, over HTTP or gRPC.

The OpenTelemetry SDK's thread takes them in batches from its bounded queue. If the collector is unavailable, spans are
lost and counted, and requests continue. Importing this module loads the SDK; use `tracing.start_tracer`.
"""

from collections.abc import Sequence
from threading import Thread
from typing import Protocol

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from l4.telemetry.metrics import Value
from waypoint.telemetry.dropped_spans import DroppedSpans
from waypoint.telemetry.http_export import HttpTransport
from waypoint.telemetry.otlp import encode_request, encode_resource, encode_scope
from waypoint.telemetry.trace_context import SAMPLED
from waypoint.telemetry.tracing_settings import TracingSettings

_SCOPE = encode_scope("pywaypoint")
_CONTEXT = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(SAMPLED))


class Transport(Protocol):
    def send(self, request: bytes, count: int) -> bool:
        """Send an ExportTraceServiceRequest with `count` spans, and return whether the collector took it. Blocks."""

    def shutdown(self) -> None:
        """Close the connection, and give up what is being sent."""


class SpanExport:
    """A queue of encoded spans, and the thread that sends them."""

    def __init__(self, settings: TracingSettings, dropped: DroppedSpans) -> None:
        self._exporter = _Exporter(settings, dropped.failed)
        self._max_queue, batch = settings.queue
        self._processor = BatchSpanProcessor(self._exporter, self._max_queue, max_export_batch_size=batch)
        self._queued = 0
        self._full = dropped.full

    def has_room(self) -> bool:
        """Whether another span may be added. If not, it counts as dropped."""
        if self._queued - self._exporter.taken < self._max_queue:
            return True
        self._full.add()  # where the SDK would drop one and not count it
        return False

    def add(self, span: bytes) -> None:
        """Queue a span, as `encode_span` returns it."""
        self._queued += 1
        self._processor.on_end(_Encoded(span))

    def close(self, deadline_seconds: float) -> None:
        """Send queued spans, waiting no longer than the deadline. Blocks, so call it in a thread."""
        # The SDK's own shutdown retries for up to 30 s if the collector is unavailable.
        shutdown = Thread(target=self._processor.shutdown, name="tracer-shutdown", daemon=True)
        shutdown.start()
        shutdown.join(deadline_seconds)
        if shutdown.is_alive():
            self._exporter.shutdown()
            shutdown.join(deadline_seconds)


class _Encoded(ReadableSpan):
    """A span for the SDK's queue, which only looks whether the context is sampled."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def context(self) -> SpanContext:
        return _CONTEXT


class _Exporter(SpanExporter):
    """Counts the spans that it takes from the queue, and of them those that the collector does not get.

    The SDK calls it in one thread at a time.
    """

    def __init__(self, settings: TracingSettings, failed: Value) -> None:
        self.taken = 0
        self._transport = _transport(settings)
        resource = Resource.create(dict(settings.resource))
        self._resource = encode_resource(resource.attributes, resource.schema_url)
        self._failed = failed
        self._is_closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        is_sent = False
        try:
            if not self._is_closed:
                encoded = [it.data for it in spans if isinstance(it, _Encoded)]
                is_sent = self._transport.send(encode_request(self._resource, _SCOPE, encoded), len(spans))
        finally:
            if not is_sent:
                self._failed.add(len(spans))
        return SpanExportResult.SUCCESS if is_sent else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._transport.shutdown()


def _transport(settings: TracingSettings) -> Transport:
    if settings.is_grpc:
        from waypoint.telemetry.grpc_export import GrpcTransport  # gRPC takes time and memory to load

        return GrpcTransport(settings)
    return HttpTransport(settings)
