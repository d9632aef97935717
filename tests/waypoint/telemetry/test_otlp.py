"""Our encoding of spans beside the OpenTelemetry SDK's."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from tests.kit.aio import run
from tests.kit.collector import http_collector
from tests.waypoint.telemetry.test_exchanges import ANSWERED, ENDPOINT
from waypoint.telemetry import otlp
from waypoint.telemetry.otlp import CLIENT, SERVER, encode_request, encode_resource, encode_scope, encode_span
from waypoint.telemetry.span_tags import span_attributes, span_name
from waypoint.telemetry.tracing import start_tracer
from waypoint.telemetry.tracing_settings import TracingSettings

KINDS = {SERVER: SpanKind.SERVER, CLIENT: SpanKind.CLIENT}
SCOPE = InstrumentationScope("pywaypoint")

Attributes = Mapping[str, str | int]

span_ids = st.integers(1, 2**64 - 1)
times = st.integers(0, 2**64 - 1)
texts = st.text(max_size=300)
numbers = st.integers(-(2**63), 2**63 - 1)
attributes = st.dictionaries(texts, texts | numbers, max_size=8)
values = texts | numbers | st.booleans() | st.floats(allow_nan=False)


def by_the_sdk(
    trace_id: int,
    span_id: int,
    parent_id: int | None,
    name: str,
    kind: int,
    times: tuple[int, int],
    attributes: Attributes,
    is_error: bool,
    resource: Resource,
) -> ExportTraceServiceRequest:
    def context(of: int, *, is_remote: bool) -> SpanContext:
        return SpanContext(trace_id, of, is_remote, TraceFlags(1))

    span = ReadableSpan(
        name,
        context(span_id, is_remote=False),
        None if parent_id is None else context(parent_id, is_remote=kind == SERVER),
        resource,
        attributes,
        kind=KINDS[kind],
        status=Status(StatusCode.ERROR if is_error else StatusCode.UNSET),
        start_time=times[0],
        end_time=times[1],
        instrumentation_scope=SCOPE,
    )
    return encode_spans([span])


@given(
    st.integers(1, 2**128 - 1),
    span_ids,
    st.none() | span_ids,
    texts,
    st.sampled_from(list(KINDS)),
    st.tuples(times, times),
    attributes,
    st.booleans(),
)
def test_the_bytes_are_those_of_the_sdk(
    trace_id: int,
    span_id: int,
    parent_id: int | None,
    name: str,
    kind: int,
    began_ended: tuple[int, int],
    its: Attributes,
    is_error: bool,
) -> None:
    expected = by_the_sdk(trace_id, span_id, parent_id, name, kind, began_ended, its, is_error, Resource({"a": "b"}))
    around = encode_resource({"a": "b"}, ""), encode_scope("pywaypoint")
    span = encode_span(trace_id, span_id, parent_id, name, kind, *began_ended, its, is_error)

    found = encode_request(*around, [span])
    assert ExportTraceServiceRequest.FromString(found) == expected
    twice = encode_request(*around, [span, span])
    assert len(ExportTraceServiceRequest.FromString(twice).resource_spans[0].scope_spans[0].spans) == 2


@given(
    st.dictionaries(st.text(min_size=1), values | st.lists(texts) | st.lists(numbers) | st.lists(st.floats(0, 1))),
    texts,
)
def test_a_resource_has_the_bytes_of_the_sdk(its: Mapping[str, AttributeValue], schema_url: str) -> None:
    resource = Resource(its, schema_url)
    expected = by_the_sdk(1, 2, None, "", CLIENT, (1, 2), {}, False, resource).resource_spans[0]

    found = ResourceSpans.FromString(encode_resource(resource.attributes, resource.schema_url))

    assert (found.resource, found.schema_url) == (expected.resource, expected.schema_url)


def test_text_that_is_no_unicode_is_replaced() -> None:
    span = encode_span(1, 2, None, "\udcff", CLIENT, 1, 2, {"\udcff": "a\udcff"}, is_error=False)

    [its_resource] = ExportTraceServiceRequest.FromString(encode_request(b"", b"", [span])).resource_spans
    [found] = its_resource.scope_spans[0].spans
    assert found.name == "?"
    assert [(it.key, it.value.string_value) for it in found.attributes] == [("?", "a?")]


@pytest.mark.parametrize("is_error", [False, True])
def test_a_collector_gets_of_a_request_what_the_sdk_would_send(is_error: bool) -> None:
    async def scenario() -> None:
        async with http_collector() as collector:
            variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_RESOURCE_ATTRIBUTES": "zone=ä%2Cb"}
            tracer = start_tracer(TracingSettings.parse(variables, "waypoint", {"mesh": "one"}))
            assert tracer is not None
            span = tracer.begin([], {b"b3": b"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"}, 1_000)
            assert span is not None
            span.begin_attempt(2, ENDPOINT, "cluster")
            attempt = span._attempt
            assert attempt is not None
            span.attempt_answered(503 if is_error else 200)
            span.end_attempt()
            span.end(span_name(ANSWERED), span_attributes(ANSWERED), is_error=is_error, end_ns=2_000)
            await asyncio.to_thread(tracer.close)

            resource = Resource.create({"service.name": "waypoint", "zone": "ä,b"})
            [request] = collector.requests
            sent = {it.name: it for it in collector.spans}
            of_request = by_the_sdk(
                0x4BF92F3577B34DA6A3CE929D0E0E4736,
                span.context.span_id,
                0x00F067AA0BA902B7,
                span_name(ANSWERED),
                SERVER,
                (1_000, 2_000),
                {"mesh": "one"} | span_attributes(ANSWERED),
                is_error,
                resource,
            )
            began_ended = sent["attempt 2"].start_time_unix_nano, sent["attempt 2"].end_time_unix_nano
            its: dict[str, str | int] = {
                "server.address": "10.244.1.12",
                "server.port": 9080,
                "upstream_cluster": "cluster",
                "istio.destination_workload": "reviews-v1",
                "http.request.resend_count": 1,
                "http.response.status_code": 503 if is_error else 200,
                **({"error.type": "503"} if is_error else {}),
            }
            of_attempt = by_the_sdk(
                0x4BF92F3577B34DA6A3CE929D0E0E4736,
                attempt.context.span_id,
                span.context.span_id,
                "attempt 2",
                CLIENT,
                began_ended,
                its,
                is_error,
                resource,
            )
            expected = of_request.resource_spans[0]
            expected.scope_spans[0].spans.insert(0, of_attempt.resource_spans[0].scope_spans[0].spans[0])
            assert list(request.resource_spans) == [expected]

    run(scenario())


def test_a_long_value_is_not_remembered() -> None:
    encode_span(1, 2, None, "", CLIENT, 1, 2, {"a": "b"}, is_error=False)
    before = otlp._known_pair.cache_info().currsize

    encode_span(1, 2, None, "", CLIENT, 1, 2, {"a": "b", "c": "x" * 129}, is_error=False)

    assert otlp._known_pair.cache_info().currsize == before
