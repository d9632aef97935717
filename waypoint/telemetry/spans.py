"""A SERVER span per sampled request, linked to the caller's `traceparent`, exported by OTLP over HTTP.

Sampling is decided before the SDK is called, so an unsampled request costs one parsed header and no object. The SDK's
thread exports spans in batches from a bounded queue. If the collector is unavailable, spans are lost and requests
continue. Importing this module loads the OpenTelemetry SDK; use `tracing.start_tracer`.
"""

from collections.abc import Mapping
from threading import Thread

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from waypoint.telemetry.trace_context import TraceParent, format_traceparent, parse_traceparent
from waypoint.telemetry.tracing_settings import TracingSettings

_UNNAMED = "request"


class Span:
    """A traced request."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def traceparent(self) -> bytes:
        """Return the header to send upstream instead of the caller's."""
        context = self._span.get_span_context()
        return format_traceparent(TraceParent(context.trace_id, context.span_id, context.trace_flags))

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def exemplar(self) -> str:
        """The labels by which a metric's exemplar names this span."""
        context = self._span.get_span_context()
        return f'trace_id="{context.trace_id:032x}",span_id="{context.span_id:016x}"'

    def end(self, name: str, attributes: Mapping[str, str | int], is_error: bool, end_ns: int) -> None:
        self._span.update_name(name)
        self._span.set_attributes(attributes)
        if is_error:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end(end_ns)


class _ChosenIds(RandomIdGenerator):
    """Gives a new trace the id for which sampling was decided."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id


class Tracer:
    def __init__(self, settings: TracingSettings) -> None:
        self._sampler = settings.sampler
        self._random = RandomIdGenerator()
        self._ids = _ChosenIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create(dict(settings.resource)),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._exporter = OTLPSpanExporter(endpoint=settings.endpoint, headers=dict(settings.headers))
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("pywaypoint")

    def begin(self, traceparent: bytes | None, now_ns: int) -> Span | None:
        """Start a span for a request with this `traceparent`. Returns None if it is not sampled.

        The header of an unsampled request must be forwarded unchanged.
        """
        parent = parse_traceparent(traceparent) if traceparent else None
        trace_id = parent.trace_id if parent else self._random.generate_trace_id()
        if not self._sampler.is_sampled(parent, trace_id):
            return None
        self._ids.trace_id = trace_id
        context = (
            trace.set_span_in_context(trace.NonRecordingSpan(_span_context(parent)), Context()) if parent else Context()
        )
        return Span(self._tracer.start_span(_UNNAMED, context, trace.SpanKind.SERVER, start_time=now_ns))

    def close(self, deadline_seconds: float = 2.0) -> None:
        """Export queued spans, waiting no longer than the deadline. Blocks, so call it in a thread."""
        # The SDK's own shutdown retries for up to 30 s if the collector is unavailable.
        shutdown = Thread(target=self._provider.shutdown, name="tracer-shutdown", daemon=True)
        shutdown.start()
        shutdown.join(deadline_seconds)
        if shutdown.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
            shutdown.join(deadline_seconds)


def _span_context(parent: TraceParent) -> trace.SpanContext:
    return trace.SpanContext(
        parent.trace_id, parent.span_id, is_remote=True, trace_flags=trace.TraceFlags(parent.flags)
    )
