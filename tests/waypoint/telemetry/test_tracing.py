import asyncio
import sys
import threading
import time
from subprocess import run as run_process

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ExportedSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from l4.config.settings import InvalidSetting
from policies.telemetry import Collector, TracingRule, sampling_bound
from tests.kit.aio import run
from tests.kit.collector import grpc_collector, http_collector, tags
from waypoint.telemetry.dropped_spans import DroppedSpans
from waypoint.telemetry.spans import Span, Tracer
from waypoint.telemetry.trace_context import SAMPLED as SAMPLED_FLAG
from waypoint.telemetry.trace_context import TraceParent, parse_traceparent
from waypoint.telemetry.tracing import Tracers, start_tracer
from waypoint.telemetry.tracing_settings import InvalidTracing, Sampler, SpanTagSettings, TracingSettings

SAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def _begin(tracer: Tracer, traceparent: bytes | None, now_ns: int) -> Span | None:
    """Begin a span for a request with this header."""
    headers = [(b"traceparent", traceparent)] if traceparent is not None else []
    return tracer.begin(headers, dict(headers), now_ns)


def _settings(url: str, **variables: str) -> TracingSettings:
    settings = TracingSettings.parse({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **variables}, "waypoint")
    assert settings is not None
    return settings


def test_a_span_joins_the_callers_trace_and_reaches_thehttp_collector() -> None:
    async def scenario() -> None:
        async with http_collector() as collector:
            variables = {
                "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20secret",
                "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=waypoint-1",
            }
            tracer = start_tracer(_settings(collector.url, **variables))
            assert tracer is not None

            span = _begin(tracer, SAMPLED, 1_000_000_000)
            assert span is not None
            sent_upstream = span.context
            span.end("reviews:9080/*", {"http.response.status_code": 503}, is_error=True, end_ns=1_005_000_000)
            await asyncio.to_thread(tracer.close)

            [exported] = collector.spans
            assert exported.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
            assert exported.parent_span_id.hex() == "00f067aa0ba902b7"
            assert sent_upstream.trace_id == int.from_bytes(exported.trace_id)
            assert sent_upstream.span_id == int.from_bytes(exported.span_id)
            assert sent_upstream.is_sampled
            assert exported.kind == ExportedSpan.SPAN_KIND_SERVER
            assert exported.name == "reviews:9080/*"
            assert (exported.start_time_unix_nano, exported.end_time_unix_nano) == (1_000_000_000, 1_005_000_000)
            assert exported.status.code == Status.STATUS_CODE_ERROR
            assert exported.attributes[0].key == "http.response.status_code"
            assert exported.attributes[0].value.int_value == 503
            assert collector.authorizations == ["Bearer secret"]
            resource = {
                a.key: a.value.string_value for a in collector.requests[0].resource_spans[0].resource.attributes
            }
            assert resource["service.name"] == "waypoint"
            assert resource["k8s.pod.name"] == "waypoint-1"

    run(scenario())


@pytest.mark.parametrize("header", [None, b"malformed"])
def test_a_request_without_a_usable_traceparent_starts_a_trace(header: bytes | None) -> None:
    async def scenario() -> None:
        async with http_collector() as collector:
            tracer = start_tracer(_settings(collector.url))
            assert tracer is not None

            for _ in range(2):
                span = _begin(tracer, header, 1)
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

    assert _begin(tracer, UNSAMPLED, 1) is None
    assert _begin(never, SAMPLED, 1) is None
    assert _begin(never, None, 1) is None

    tracer.close()
    never.close()


def test_spans_go_out_over_grpc_where_that_is_the_protocol() -> None:
    with grpc_collector() as collector:
        variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20a"}
        tracer = start_tracer(_settings(collector.url, **variables))
        assert tracer is not None
        span = _begin(tracer, SAMPLED, 1)
        assert span is not None
        span.end("x", {}, is_error=False, end_ns=2)
        tracer.close()

        assert [it.name for it in collector.spans] == ["x"]
        assert collector.authorizations == ["Bearer a"]


def test_a_grpc_collector_that_is_away_is_told_and_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}
    tracer = start_tracer(_settings("http://127.0.0.1:1", **variables))
    assert tracer is not None
    span = _begin(tracer, None, 1)
    assert span is not None
    span.end("x", {}, is_error=False, end_ns=2)

    started = time.monotonic()
    tracer.close()

    assert time.monotonic() - started < 2
    assert "1 spans are lost: the collector at http://127.0.0.1:1 answered UNAVAILABLE" in caplog.text


def test_spans_that_no_collector_gets_are_counted() -> None:
    dropped = DroppedSpans()
    variables = {"OTEL_BSP_MAX_QUEUE_SIZE": "2", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    settings = _settings("http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="0.2", **variables)
    tracer = start_tracer(settings, dropped)
    assert tracer is not None

    for _ in range(5):
        span = _begin(tracer, None, 1)
        assert span is not None
        span.end("x", {}, is_error=False, end_ns=2)
    tracer.close()

    assert {reason: it.value for reason, it in dropped.by_reason.items()} == {"full": 3, "failed": 2}


@pytest.mark.parametrize("size", ["0", "-1", "many", "2147483648"])
def test_a_queue_of_no_size_is_refused(size: str) -> None:
    with pytest.raises(InvalidTracing, match="OTEL_BSP_MAX_QUEUE_SIZE"):
        _settings("http://127.0.0.1:1", OTEL_BSP_MAX_QUEUE_SIZE=size)


def test_parts_of_a_request_are_children_of_its_span() -> None:
    async def scenario() -> None:
        async with http_collector() as collector:
            tracer = start_tracer(_settings(collector.url))
            assert tracer is not None
            span = _begin(tracer, SAMPLED, 1)
            assert span is not None
            headers = [(b"traceparent", SAMPLED), (b"x", b"1")]
            child = span.child("authorize a")
            child.note("outcome", "ok")
            child.inject(headers)
            child.finish()
            span.end("x", {}, is_error=False, end_ns=2)
            await asyncio.to_thread(tracer.close)

            part, whole = collector.spans
            assert part.parent_span_id == whole.span_id
            assert part.trace_id == whole.trace_id
            assert part.kind == ExportedSpan.SPAN_KIND_CLIENT
            assert tags(part) == {"outcome": "ok"}
            [(_, sent), other] = headers
            assert parse_traceparent(sent) == TraceParent(
                int.from_bytes(part.trace_id), int.from_bytes(part.span_id), child.context.flags
            )
            assert other == (b"x", b"1")

    run(scenario())


@pytest.mark.parametrize(
    ("rule", "is_sampled", "names"),
    [
        (TracingRule(share=0.0), False, ["traceparent"]),
        (TracingRule(share=1.0), True, ["traceparent"]),
        (TracingRule(share=1.0, is_propagated=False), True, []),
        (TracingRule(share=1.0, is_reported=False), False, ["traceparent"]),
        (TracingRule(share=0.0, is_propagated=False), False, []),
    ],
)
def test_a_telemetry_object_decides_on_new_traces(rule: TracingRule[None], is_sampled: bool, names: list[str]) -> None:
    tracer = start_tracer(_settings("http://127.0.0.1:1", OTEL_TRACES_SAMPLER="parentbased_always_off"))
    assert tracer is not None
    headers: list[tuple[bytes, bytes]] = []

    span = tracer.begin(headers, {}, 1, rule)

    assert (span is not None) is is_sampled
    assert [name.decode() for name, _ in headers] == names
    if names:
        assert int(headers[0][1][-2:], 16) & SAMPLED_FLAG == rule.share
    tracer.close(0.1)


def test_a_callers_decision_goes_before_a_telemetry_objects() -> None:
    tracer = start_tracer(_settings("http://127.0.0.1:1"))
    assert tracer is not None
    headers = [(b"traceparent", UNSAMPLED)]

    assert tracer.begin(headers, dict(headers), 1, TracingRule(share=1.0)) is None
    assert headers == [(b"traceparent", UNSAMPLED)]
    tracer.close(0.1)


def test_each_collector_of_the_configuration_has_a_tracer_while_it_is_there() -> None:
    with grpc_collector() as one, grpc_collector() as other:
        first, second = Collector(one.url), Collector(other.url)
        tracers = Tracers({"OTEL_TRACES_SAMPLER": "always_on"}, "waypoint", {"a": "b"})
        for wanted in ({first}, {first, second}, {second}):
            before = tracers.others.get(second)
            tracers.reconcile(wanted)
            assert tracers.others.keys() == wanted
            assert before in {None, tracers.others.get(second)}
            for tracer in tracers.others.values():
                span = _begin(tracer, None, 1)
                assert span is not None
                span.end("x", {}, is_error=False, end_ns=2)
        tracers.close()
        deadline = time.monotonic() + 5
        while len(one.spans) < 2:  # what waited for the collector that went is sent in the background
            assert time.monotonic() < deadline
            time.sleep(0.01)

        assert tracers.own is None
        assert (len(one.spans), len(other.spans)) == (2, 2)
        assert tags(other.spans[0])["a"] == "b"


def test_istios_share_of_new_traces_is_the_default_for_collectors_of_the_configuration() -> None:
    found = TracingSettings.of_collectors({}, "waypoint", {})

    assert found is not None
    assert found.sampler == Sampler(0.01, follows_parent=True)
    assert TracingSettings.of_collectors({"OTEL_SDK_DISABLED": "true"}, "waypoint", {}) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_PROPAGATORS", "tracecontext,jaeger"),
    ],
)
def test_a_variable_that_is_not_understood_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(InvalidTracing, match=variable):
        _settings("http://127.0.0.1:1", **{variable: value})


def test_roots_for_grpc_that_cannot_be_read_are_refused() -> None:
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nobody"}

    with pytest.raises(InvalidTracing, match="/nobody"):
        _settings("https://127.0.0.1:1", **variables)


def test_a_collector_that_is_away_does_not_hold_up_the_end_and_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    tracer = start_tracer(_settings("http://127.0.0.1:1"))
    assert tracer is not None
    span = _begin(tracer, None, 1)
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


@given(st.floats(0, 1), st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**63 - 1, 2**63, 2**64 - 1]))
def test_the_digits_of_an_id_are_compared_as_its_number_is(share: float, half: int) -> None:
    assert (b"%016x" % half < sampling_bound(share)) == Sampler(share, follows_parent=False).is_sampled(None, half)


def test_ids_of_new_traces_differ_and_a_share_of_them_is_sampled() -> None:
    tracer = start_tracer(_settings("http://127.0.0.1:1", OTEL_TRACES_SAMPLER="parentbased_always_off"))
    assert tracer is not None
    found = []
    for _ in range(1000):
        headers: list[tuple[bytes, bytes]] = []
        tracer.begin(headers, {}, 1, TracingRule(share=0.5))
        [(_, value)] = headers
        parent = parse_traceparent(value)
        assert parent is not None
        found.append(parent)

    assert len({it.trace_id for it in found}) == len({it.span_id for it in found}) == 1000
    assert 400 < sum(it.is_sampled for it in found) < 600
    assert all(Sampler(0.5, follows_parent=False).is_sampled(None, it.trace_id) == it.is_sampled for it in found)
    tracer.close(0.1)


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


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("POD_NAME, a-b", "SPAN_TAG_VARIABLES: 'a-b' is not the name of an environment variable"),
        ("x" * 200, "is not the name of an environment variable"),
        (",".join(f"V{number}" for number in range(65)), "SPAN_TAG_VARIABLES has 65 names; at most 64 can be"),
    ],
)
def test_names_of_variables_that_cannot_be_are_refused(names: str, sentence: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        SpanTagSettings(names)

    assert sentence in str(caught.value)


def test_a_process_reads_only_the_variables_that_it_may_show_for_all_collectors() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector", "ZONE": "a", "TOKEN": "secret", "EMPTY": ""}

    tracers = Tracers(environment, "waypoint", {}, ("ZONE", "EMPTY", "ABSENT"))
    other = Collector("http://other:4317", is_grpc=False)
    tracers.reconcile({other})

    assert tracers.own is not None
    assert tracers.own.variables == tracers.others[other].variables == {"ZONE": "a"}
    tracers.close()
