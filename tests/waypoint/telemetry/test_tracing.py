import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from subprocess import run as run_process

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ExportedSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.kit.aio import run
from waypoint.telemetry.trace_context import TraceParent, parse_traceparent
from waypoint.telemetry.tracing import start_tracer
from waypoint.telemetry.tracing_settings import InvalidTracing, Sampler, TracingSettings

SAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


class Collector:
    """An OTLP/HTTP collector that keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[str | None] = []
        self.url = ""

    @property
    def spans(self) -> list[ExportedSpan]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    async def export(self, request: web.Request) -> web.Response:
        self.requests.append(ExportTraceServiceRequest.FromString(await request.read()))
        self.headers.append(request.headers.get("authorization"))
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def _collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.export)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


def _settings(url: str, **variables: str) -> TracingSettings:
    settings = TracingSettings.parse({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **variables}, "waypoint")
    assert settings is not None
    return settings


def test_a_span_joins_the_callers_trace_and_reaches_the_collector() -> None:
    async def scenario() -> None:
        async with _collector() as collector:
            variables = {
                "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20secret",
                "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=waypoint-1",
            }
            tracer = start_tracer(_settings(collector.url, **variables))
            assert tracer is not None

            span = tracer.begin(SAMPLED, 1_000_000_000)
            assert span is not None
            sent_upstream = parse_traceparent(span.traceparent())
            span.end("reviews:9080/*", {"http.response.status_code": 503}, is_error=True, end_ns=1_005_000_000)
            await asyncio.to_thread(tracer.close)

            [exported] = collector.spans
            assert exported.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
            assert exported.parent_span_id.hex() == "00f067aa0ba902b7"
            assert sent_upstream is not None
            assert sent_upstream.trace_id == int.from_bytes(exported.trace_id)
            assert sent_upstream.span_id == int.from_bytes(exported.span_id)
            assert sent_upstream.is_sampled
            assert exported.kind == ExportedSpan.SPAN_KIND_SERVER
            assert exported.name == "reviews:9080/*"
            assert (exported.start_time_unix_nano, exported.end_time_unix_nano) == (1_000_000_000, 1_005_000_000)
            assert exported.status.code == Status.STATUS_CODE_ERROR
            assert exported.attributes[0].key == "http.response.status_code"
            assert exported.attributes[0].value.int_value == 503
            assert collector.headers == ["Bearer secret"]
            resource = {
                a.key: a.value.string_value for a in collector.requests[0].resource_spans[0].resource.attributes
            }
            assert resource["service.name"] == "waypoint"
            assert resource["k8s.pod.name"] == "waypoint-1"

    run(scenario())


@pytest.mark.parametrize("header", [None, b"malformed"])
def test_a_request_without_a_usable_traceparent_starts_a_trace(header: bytes | None) -> None:
    async def scenario() -> None:
        async with _collector() as collector:
            tracer = start_tracer(_settings(collector.url))
            assert tracer is not None

            for _ in range(2):
                span = tracer.begin(header, 1)
                assert span is not None
                span.end("x", {}, is_error=False, end_ns=2)
            await asyncio.to_thread(tracer.close)

            first, second = collector.spans
            assert first.parent_span_id == second.parent_span_id == b""
            assert first.trace_id != second.trace_id

    run(scenario())


def test_a_request_that_is_not_sampled_has_no_span() -> None:
    tracer = start_tracer(_settings("http://127.0.0.1:1"))
    never = start_tracer(_settings("http://127.0.0.1:1", OTEL_TRACES_SAMPLER="always_off"))
    assert tracer is not None
    assert never is not None

    assert tracer.begin(UNSAMPLED, 1) is None
    assert never.begin(SAMPLED, 1) is None
    assert never.begin(None, 1) is None

    tracer.close()
    never.close()


def test_a_collector_that_is_away_does_not_hold_up_the_end_and_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    tracer = start_tracer(_settings("http://127.0.0.1:1"))
    assert tracer is not None
    span = tracer.begin(None, 1)
    assert span is not None
    span.end("x", {}, is_error=False, end_ns=2)

    started = time.monotonic()
    tracer.close(deadline_seconds=0.5)

    assert time.monotonic() - started < 2
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("always_on", "", Sampler(1.0, follows_parent=False)),
        ("always_off", "", Sampler(0.0, follows_parent=False)),
        ("traceidratio", "0.25", Sampler(0.25, follows_parent=False)),
        ("parentbased_always_on", "", Sampler(1.0, follows_parent=True)),
        ("parentbased_always_off", "", Sampler(0.0, follows_parent=True)),
        ("parentbased_traceidratio", "0.01", Sampler(0.01, follows_parent=True)),
        ("traceidratio", "", Sampler(1.0, follows_parent=False)),
    ],
)
def test_samplers_have_the_standard_names(name: str, argument: str, expected: Sampler) -> None:
    assert Sampler.parse(name, argument) == expected


@pytest.mark.parametrize(("name", "argument"), [("jaeger_remote", ""), ("traceidratio", "2"), ("traceidratio", "x")])
def test_a_sampler_that_is_not_understood_is_refused_with_its_variable(name: str, argument: str) -> None:
    with pytest.raises(InvalidTracing, match="OTEL_TRACES_SAMPLER"):
        Sampler.parse(name, argument)


def test_a_ratio_keeps_the_same_traces_on_every_hop_and_a_parents_decision_goes_first() -> None:
    half = Sampler(0.5, follows_parent=False)
    parent_first = Sampler(0.5, follows_parent=True)
    low, high = 1, 2**64 - 1

    assert half.is_sampled(TraceParent(low, 1, flags=0), low)
    assert not half.is_sampled(TraceParent(high, 1, flags=1), high)
    assert not parent_first.is_sampled(TraceParent(low, 1, flags=0), low)
    assert parent_first.is_sampled(TraceParent(high, 1, flags=1), high)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_or_when_switched_off_nothing_is_traced(environment: dict[str, str]) -> None:
    settings = TracingSettings.parse(environment, "waypoint")

    assert settings is None
    assert start_tracer(settings) is None


def test_the_endpoint_for_traces_is_used_as_it_is_and_headers_are_not_shown() -> None:
    settings = TracingSettings.parse(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/custom",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4318/",
            "OTEL_EXPORTER_OTLP_HEADERS": "token=secret",
            "OTEL_SERVICE_NAME": "edge",
        },
        "waypoint",
    )

    assert settings is not None
    assert settings.endpoint == "http://c:4318/custom"
    assert settings.resource == {"service.name": "edge"}
    assert "secret" not in repr(settings)


def test_the_sdk_is_not_loaded_unless_something_is_traced() -> None:
    start = "from waypoint.telemetry.tracing import start_tracer; start_tracer(None)"
    program = f"import sys; {start}; sys.exit('opentelemetry' in sys.modules)"

    assert run_process([sys.executable, "-c", program], check=False).returncode == 0
