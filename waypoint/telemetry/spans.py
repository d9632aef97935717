"""A SERVER span per sampled request, linked to the caller's trace, and CLIENT spans of what it waits for.

Spans are exported by OTLP, see `span_export`. Sampling is decided first, so an unsampled request costs one header and
no object. A span that has ended is encoded at once.
"""

from binascii import hexlify
from collections.abc import Mapping
from os import urandom
from random import getrandbits
from struct import Struct
from time import time_ns
from typing import TYPE_CHECKING, Any

from policies.attributes import Headers
from policies.balancing.endpoint import Endpoint
from policies.telemetry import TracingRule, sampling_bound
from waypoint.telemetry.otlp import CLIENT, SERVER, encode_span
from waypoint.telemetry.trace_context import SAMPLED, TraceParent
from waypoint.telemetry.trace_headers import ALL, Style, extract, inject, is_named
from waypoint.telemetry.tracing_settings import TracingSettings

if TYPE_CHECKING:
    from waypoint.telemetry.span_export import SpanExport

_UNNAMED = "request"
_IDS = Struct("16s16s16s")
"""The hexadecimal digits of a trace's id, in two halves, and of a span's."""
_IDS_AT_ONCE = 64
"""As each call of the kernel costs more than the bytes that it returns."""
_W3C = (Style.W3C,)


class Span:
    """A traced request, or a part of it: an attempt at an endpoint, or a question to a policy service.

    `context` is its own, `parent` that of the span it is a part of.
    """

    __slots__ = (
        "_attempt",
        "_attributes",
        "_began_ns",
        "_is_error",
        "_name",
        "_parent",
        "_styles",
        "_tracer",
        "context",
    )

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
        self._is_error = False
        self._attempt: Span | None = None

    @property
    def trace_id(self) -> str:
        return f"{self.context.trace_id:032x}"

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables that a tag may show."""
        return self._tracer.variables

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
        self._is_error = True

    def finish(self) -> None:
        """End a span that `child` has begun."""
        self._export(CLIENT, time_ns())

    def end(self, name: str, attributes: Mapping[str, str | int], is_error: bool, end_ns: int) -> None:
        """End a span that `Tracer.begin` has begun."""
        self._name = name
        self._attributes.update(attributes)
        if is_error:
            self._is_error = True
        self._export(SERVER, end_ns)

    def _export(self, kind: int, end_ns: int) -> None:
        export = self._tracer.export
        if not export.has_room():
            return
        own, parent = self.context, self._parent
        export.add(
            encode_span(
                own.trace_id,
                own.span_id,
                None if parent is None else parent.span_id,
                self._name,
                kind,
                self._began_ns,
                end_ns,
                self._attributes,
                self._is_error,
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


class Tracer:
    """Begins spans, and exports those that have ended."""

    __slots__ = ("_bound", "_ids", "_propagators", "_sampler", "_tags", "export", "variables")

    def __init__(self, settings: TracingSettings, export: "SpanExport") -> None:
        self.export = export
        self._sampler = settings.sampler
        self._bound = sampling_bound(settings.sampler.ratio)
        self._propagators = settings.propagators
        self._tags = settings.tags
        self.variables: Mapping[str, str] = settings.variables
        self._ids: list[tuple[bytes, bytes, bytes]] = []

    def begin(
        self,
        headers: Headers,
        fields: dict[bytes, bytes],
        now_ns: int,
        rule: TracingRule[Any] | None = None,
    ) -> Span | None:
        """Start a span for a request, and make it the parent of the receiver's in `headers`.

        `fields` are the headers by name. Returns None if the request is not sampled: the caller's headers then go on
        unchanged, and if there are none, others learn that it is not.
        """
        parent = style = None
        high, low, span_id = self._new_ids()
        share, bound = (None, self._bound) if rule is None or rule.share is None else (rule.share, rule.bound)
        is_propagated = rule is None or rule.is_propagated
        if is_named(fields):
            parent, style = extract(fields, self._propagators or ALL)
        elif is_propagated and not self._propagators and low >= bound:
            # Most requests, where a share is sampled: this is on the path of each of them.
            headers.append((b"traceparent", b"".join((b"00-", high, low, b"-", span_id, b"-00"))))
            return None
        trace_id = parent.trace_id if parent is not None and parent.trace_id else int(high + low, 16)
        is_sampled = self._sampler.is_sampled(parent, trace_id, share)
        if not is_sampled or (rule is not None and not rule.is_reported):
            if parent is None and is_propagated:
                told = TraceParent(trace_id, int(span_id, 16), SAMPLED if is_sampled else 0)
                inject(headers, told, self._propagators or _W3C)
            return None
        styles = self._propagators or (_W3C if style in {None, Style.W3C} else (Style.W3C, style))
        its_parent = parent if parent is not None and parent.trace_id else None
        tags = self._tags if rule is None or rule.has_istio_tags else {}
        span = Span(self, _UNNAMED, trace_id, its_parent, styles if is_propagated else (), tags, now_ns)
        span.inject(headers)
        return span

    def _new_ids(self) -> tuple[bytes, bytes, bytes]:
        """Return random ids as in `_IDS`."""
        if not self._ids:
            self._ids = list(_IDS.iter_unpack(hexlify(urandom(_IDS.size // 2 * _IDS_AT_ONCE))))
        return self._ids.pop()

    def close(self, deadline_seconds: float = 2.0) -> None:
        """Export queued spans, waiting no longer than the deadline. Blocks, so call it in a thread."""
        self.export.close(deadline_seconds)
