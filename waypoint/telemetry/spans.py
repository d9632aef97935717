"""A SERVER span per sampled request, linked to the caller's trace, and CLIENT spans of what it waits for.

Spans are exported by OTLP, over HTTP or gRPC. Sampling is decided before the SDK is called, so an unsampled request
costs one parsed header and no object. The SDK's thread exports spans in batches from a bounded queue. If the collector
is unavailable, spans are lost and requests continue. Importing this module loads the OpenTelemetry SDK; use
`tracing.start_tracer`.
"""

from collections.abc import Mapping
from random import getrandbits
from threading import Thread
from typing import TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from policies.attributes import Headers
from policies.balancing.endpoint import Endpoint
from policies.telemetry import TracingRule
from waypoint.telemetry.trace_context import SAMPLED, TraceParent
from waypoint.telemetry.trace_headers import ALL, NAMES, Style, extract, inject
from waypoint.telemetry.tracing_settings import TracingSettings

_UNNAMED = "request"
_W3C = (Style.W3C,)
T = TypeVar("T")


class Span:
    """A traced request, or a part of it: an attempt at an endpoint, or a question to a policy service."""

    __slots__ = ("_attempt", "_span", "_styles", "_tracer")

    def __init__(self, span: trace.Span, tracer: trace.Tracer, styles: tuple[Style, ...]) -> None:
        self._span = span
        self._tracer = tracer
        self._styles = styles
        self._attempt: Span | None = None

    @property
    def context(self) -> TraceParent:
        context = self._span.get_span_context()
        return TraceParent(context.trace_id, context.span_id, context.trace_flags)

    @property
    def trace_id(self) -> str:
        return f"{self.context.trace_id:032x}"

    @property
    def exemplar(self) -> str:
        """The labels by which a metric's exemplar names this span."""
        context = self.context
        return f'trace_id="{context.trace_id:032x}",span_id="{context.span_id:016x}"'

    def inject(self, headers: Headers) -> None:
        """Make this span the parent of the receiver's."""
        inject(headers, self.context, self._styles)

    def child(self, name: str, attributes: Mapping[str, str | int] | None = None) -> "Span":
        """Begin a span of a part, which `finish` ends."""
        context = trace.set_span_in_context(self._span, Context())
        span = self._tracer.start_span(name, context, trace.SpanKind.CLIENT, attributes)
        return Span(span, self._tracer, self._styles)

    def note(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    def failed(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(trace.StatusCode.ERROR)

    def finish(self) -> None:
        self._span.end()

    def end(self, name: str, attributes: Mapping[str, str | int], is_error: bool, end_ns: int) -> None:
        self._span.update_name(name)
        self._span.set_attributes(attributes)
        if is_error:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end(end_ns)

    # -- attempts --------------------------------------------------------------------------------------------------

    def begin_attempt(self, count: int, endpoint: Endpoint, cluster: str) -> None:
        attributes: dict[str, str | int] = {
            "server.address": endpoint.ip,
            "server.port": endpoint.port,
            "upstream_cluster": cluster,
            "istio.destination_workload": endpoint.workload.workload,
        }
        if count > 1:
            attributes["http.request.resend_count"] = count - 1
        self._attempt = self.child(f"attempt {count}", attributes)

    def inject_attempt(self, headers: Headers) -> None:
        if self._attempt is not None:
            self._attempt.inject(headers)

    def attempt_answered(self, status: int) -> None:
        if self._attempt is not None:
            self._attempt.note("http.response.status_code", status)
            if status >= 500:
                self._attempt.failed(str(status))

    def attempt_failed(self, reason: str) -> None:
        if self._attempt is not None:
            self._attempt.failed(reason)

    def end_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.finish()
            self._attempt = None


class _ChosenIds(RandomIdGenerator):
    """Gives a new trace the id for which sampling was decided."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id


class Tracer:
    def __init__(self, settings: TracingSettings) -> None:
        self._sampler = settings.sampler
        self._ids = _ChosenIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create(dict(settings.resource)),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._exporter = _exporter(settings)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("pywaypoint")
        self._propagators = settings.propagators
        self._tags = settings.tags

    def begin(
        self,
        headers: Headers,
        fields: Mapping[bytes, bytes],
        now_ns: int,
        rule: TracingRule[T] | None = None,
    ) -> Span | None:
        """Start a span for a request, and make it the parent of the receiver's in `headers`.

        `fields` are the headers by name. Returns None if the request is not sampled: the caller's headers then go on
        unchanged, and if there are none, others learn that it is not.
        """
        parent = style = None
        trace_id = getrandbits(128) or 1
        if not fields.keys().isdisjoint(NAMES):
            parent, style = extract(fields, self._propagators or ALL)
            trace_id = parent.trace_id if parent is not None and parent.trace_id else trace_id
        elif rule is None and not self._propagators and not self._sampler.is_sampled(None, trace_id):
            # Most requests, where a share is sampled: this is on the path of each of them.
            headers.insert(0, (b"traceparent", b"00-%032x-%016x-00" % (trace_id, getrandbits(64) or 1)))
            return None
        is_sampled = self._sampler.is_sampled(parent, trace_id, rule.share if rule is not None else None)
        is_propagated = rule is None or rule.is_propagated
        if not is_sampled or (rule is not None and not rule.is_reported):
            if parent is None and is_propagated:
                told = TraceParent(trace_id, getrandbits(64) or 1, SAMPLED if is_sampled else 0)
                inject(headers, told, self._propagators or _W3C)
            return None
        styles = self._propagators or (_W3C if style in {None, Style.W3C} else (Style.W3C, style))
        self._ids.trace_id = trace_id
        context = Context()
        if parent is not None and parent.trace_id:
            context = trace.set_span_in_context(trace.NonRecordingSpan(_span_context(parent)), context)
        tags = self._tags if rule is None or rule.has_istio_tags else None
        started = self._tracer.start_span(_UNNAMED, context, trace.SpanKind.SERVER, tags, start_time=now_ns)
        span = Span(started, self._tracer, styles if is_propagated else ())
        span.inject(headers)
        return span

    def close(self, deadline_seconds: float = 2.0) -> None:
        """Export queued spans, waiting no longer than the deadline. Blocks, so call it in a thread."""
        # The SDK's own shutdown retries for up to 30 s if the collector is unavailable.
        shutdown = Thread(target=self._provider.shutdown, name="tracer-shutdown", daemon=True)
        shutdown.start()
        shutdown.join(deadline_seconds)
        if shutdown.is_alive():
            self._exporter.shutdown()
            shutdown.join(deadline_seconds)


def _exporter(settings: TracingSettings) -> SpanExporter:
    if settings.is_grpc:
        from waypoint.telemetry.grpc_export import GrpcExporter  # gRPC takes time and memory to load

        return GrpcExporter(settings)
    return OTLPSpanExporter(endpoint=settings.endpoint, headers=dict(settings.headers))


def _span_context(parent: TraceParent) -> trace.SpanContext:
    return trace.SpanContext(
        parent.trace_id, parent.span_id, is_remote=True, trace_flags=trace.TraceFlags(parent.flags)
    )
