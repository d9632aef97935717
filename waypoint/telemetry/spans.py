"""A SERVER span per sampled request, linked to the caller's trace, and CLIENT spans of what it waits for.

Spans are exported by OTLP, over HTTP or gRPC. Sampling is decided first, so an unsampled request costs one header and
no object. A span is a plain object until it ends, because those of the SDK check and copy each attribute, which costs
more than the request. The SDK's thread exports spans in batches from a bounded queue. If the collector is unavailable,
spans are lost and requests continue. Importing this module loads the OpenTelemetry SDK; use `tracing.start_tracer`.
"""

from collections.abc import Mapping, Sequence
from random import getrandbits
from threading import Thread
from time import time_ns
from typing import TypeVar

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from l4.telemetry.metrics import Value
from policies.attributes import Headers
from policies.balancing.endpoint import Endpoint
from policies.telemetry import TracingRule
from waypoint.telemetry.dropped_spans import DroppedSpans
from waypoint.telemetry.trace_context import SAMPLED, TraceParent
from waypoint.telemetry.trace_headers import ALL, NAMES, Style, extract, inject
from waypoint.telemetry.tracing_settings import TracingSettings

_UNNAMED = "request"
_W3C = (Style.W3C,)
_SCOPE = InstrumentationScope("pywaypoint")
_FLAGS = TraceFlags(SAMPLED)
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
T = TypeVar("T")


class Span:
    """A traced request, or a part of it: an attempt at an endpoint, or a question to a policy service.

    `context` is its own, `parent` that of the span it is a part of.
    """

    __slots__ = ("_attempt", "_attributes", "_began_ns", "_name", "_parent", "_status", "_styles", "_tracer", "context")

    def __init__(
        self,
        tracer: "Tracer",
        name: str,
        trace_id: int,
        parent: TraceParent | None,
        styles: tuple[Style, ...],
        attributes: Mapping[str, str | int],
        began_ns: int,
    ) -> None:
        self.context = TraceParent(trace_id, getrandbits(64) or 1, SAMPLED)
        self._tracer = tracer
        self._name = name
        self._parent = parent
        self._styles = styles
        self._attributes = dict(attributes)
        self._began_ns = began_ns
        self._status = _UNSET
        self._attempt: Span | None = None

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
        own = self.context
        return Span(self._tracer, name, own.trace_id, own, self._styles, attributes or {}, time_ns())

    def note(self, name: str, value: str | int) -> None:
        self._attributes[name] = value

    def failed(self, reason: str) -> None:
        self._attributes["error.type"] = reason
        self._status = _ERROR

    def finish(self) -> None:
        """End a span that `child` has begun."""
        self._export(SpanKind.CLIENT, _context(self._parent, is_remote=False), time_ns())

    def end(self, name: str, attributes: Mapping[str, str | int], is_error: bool, end_ns: int) -> None:
        """End a span that `Tracer.begin` has begun."""
        self._name = name
        self._attributes.update(attributes)
        if is_error:
            self._status = _ERROR
        self._export(SpanKind.SERVER, _context(self._parent, is_remote=True), end_ns)

    def _export(self, kind: SpanKind, parent: SpanContext | None, end_ns: int) -> None:
        self._tracer.export(
            ReadableSpan(
                self._name,
                _context(self.context, is_remote=False),
                parent,
                self._tracer.resource,
                self._attributes,
                kind=kind,
                status=self._status,
                start_time=self._began_ns,
                end_time=end_ns,
                instrumentation_scope=_SCOPE,
            )
        )

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


class _Resource(Resource):
    """The exporter groups spans by their resource, whose own hash formats all its attributes, for each span."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class _Counting(SpanExporter):
    """Counts the spans that another exporter takes from the queue, and of them those that it loses.

    The SDK calls it in one thread at a time.
    """

    def __init__(self, exporter: SpanExporter, failed: Value) -> None:
        self.taken = 0
        self._exporter = exporter
        self._failed = failed

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self._failed.add(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Tracer:
    """Begins spans, and exports those that have ended. `resource` says whose they are."""

    def __init__(self, settings: TracingSettings, dropped: DroppedSpans) -> None:
        self._sampler = settings.sampler
        resource = Resource.create(dict(settings.resource))
        self.resource = _Resource(resource.attributes, resource.schema_url)
        self._exporter = _Counting(_exporter(settings), dropped.failed)
        self._max_queue, batch = settings.queue
        self._processor = BatchSpanProcessor(self._exporter, self._max_queue, max_export_batch_size=batch)
        self._queued = 0
        self._full = dropped.full
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
        ids = getrandbits(192).to_bytes(24).hex()  # of a trace and a span
        trace_id = int(ids[:32], 16)
        share = rule.share if rule is not None else None
        is_propagated = rule is None or rule.is_propagated
        if not fields.keys().isdisjoint(NAMES):
            parent, style = extract(fields, self._propagators or ALL)
        elif is_propagated and not self._propagators and not self._sampler.is_sampled(None, trace_id, share):
            # Most requests, where a share is sampled: this is on the path of each of them.
            headers.insert(0, (b"traceparent", f"00-{ids[:32]}-{ids[32:]}-00".encode()))
            return None
        if parent is not None and parent.trace_id:
            trace_id = parent.trace_id
        is_sampled = self._sampler.is_sampled(parent, trace_id, share)
        if not is_sampled or (rule is not None and not rule.is_reported):
            if parent is None and is_propagated:
                told = TraceParent(trace_id, int(ids[32:], 16), SAMPLED if is_sampled else 0)
                inject(headers, told, self._propagators or _W3C)
            return None
        styles = self._propagators or (_W3C if style in {None, Style.W3C} else (Style.W3C, style))
        its_parent = parent if parent is not None and parent.trace_id else None
        tags = self._tags if rule is None or rule.has_istio_tags else {}
        span = Span(self, _UNNAMED, trace_id, its_parent, styles if is_propagated else (), tags, now_ns)
        span.inject(headers)
        return span

    def export(self, span: ReadableSpan) -> None:
        """Queue a span that has ended. It is dropped if too many are waiting."""
        if self._queued - self._exporter.taken >= self._max_queue:  # where the SDK would drop one and not count it
            self._full.add()
            return
        self._queued += 1
        self._processor.on_end(span)

    def close(self, deadline_seconds: float = 2.0) -> None:
        """Export queued spans, waiting no longer than the deadline. Blocks, so call it in a thread."""
        # The SDK's own shutdown retries for up to 30 s if the collector is unavailable.
        shutdown = Thread(target=self._processor.shutdown, name="tracer-shutdown", daemon=True)
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


def _context(of: TraceParent | None, *, is_remote: bool) -> SpanContext | None:
    return None if of is None else SpanContext(of.trace_id, of.span_id, is_remote, _FLAGS)
