"""What a collector learns of requests through real tunnels: a span of each, and of each thing that it waits for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.kit.aio import run
from tests.kit.collector import Collector, http_collector, tags
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import Handler, Origin, answering, origin, reply, scripted
from tests.kit.rate_limit_server import rate_limit_server
from waypoint.telemetry.tracing import start_tracer
from waypoint.telemetry.tracing_settings import SpanTagSettings, TracingSettings

RETRIED = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app, port: 9080}]
  rules: [{backendRefs: [{name: app, port: 9080}], retry: {codes: [503], attempts: 2, backoff: 1ms}}]
"""
REQUEST = "app.default.svc.cluster.local:9080/*"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


QUESTIONS = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app, port: 9080}]
  rules:
    - filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: app, port: 9080}, http: {}}}]
      backendRefs: [{name: app, port: 9080}]
---
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: global}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  scope: Global
  global: {address: "LIMITER:8081", domain: app, timeout: 5s}
  rules: [{name: all, limit: {requests: 5, unit: Minute}}]
"""


class Traced:
    def __init__(self, mesh: Mesh, authority: str, seen: Origin, collector: Collector) -> None:
        self.mesh = mesh
        self.authority = authority
        self.seen = seen
        self._collector = collector

    async def spans(self) -> dict[str, Span]:
        """All spans so far, by their names."""
        tracer = self.mesh.path.tracer
        assert tracer is not None
        await settled(lambda: self.mesh.path.exchanges == 0)
        await asyncio.to_thread(tracer.close)
        return {span.name: span for span in self._collector.spans}

    def told(self, number: int, name: str) -> bytes:
        """The value of a header of the origin's request with this number."""
        lines = self.seen.heads[number].lower().split(b"\r\n")
        return next((line.partition(b": ")[2] for line in lines if line.startswith(name.encode() + b": ")), b"")


@asynccontextmanager
async def _traced(folder: Path, respond: Handler, more: str = "", **variables: str) -> AsyncIterator[Traced]:
    waypoint, vip, pod = address(), address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod}, more=more)
    async with http_collector() as collector:
        tracer = start_tracer(
            TracingSettings.parse(
                {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **variables},
                "waypoint",
                readable=SpanTagSettings().names,
            )
        )
        assert tracer is not None
        async with mesh(folder, text, waypoint, tracer=tracer) as it, origin(pod, respond) as seen:
            yield Traced(it, f"{vip}:9080", seen, collector)
        await asyncio.to_thread(tracer.close)


def test_each_attempt_has_a_span_and_the_endpoint_joins_it(tmp_path: Path) -> None:
    steps = scripted(reply("503 Service Unavailable"), reply())

    async def scenario() -> None:
        async with _traced(tmp_path, steps, RETRIED) as it:
            await it.mesh.get(it.authority, "/a", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n")
            spans = await it.spans()

            request, first, second = (
                spans[REQUEST],
                spans["attempt 1"],
                spans["attempt 2"],
            )
            assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
            assert request.parent_span_id.hex() == "00f067aa0ba902b7"
            assert first.parent_span_id == second.parent_span_id == request.span_id
            assert [first.kind, second.kind] == [Span.SPAN_KIND_CLIENT] * 2
            assert (tags(first)["http.response.status_code"], tags(second)["http.response.status_code"]) == (503, 200)
            assert (first.status.code, second.status.code) == (Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET)
            assert tags(second)["http.request.resend_count"] == 1
            assert tags(request)["istio.source_namespace"] == "default"
            for number, span in enumerate((first, second)):
                assert span.span_id.hex().encode() in it.told(number, "traceparent")

    run(scenario())


def test_a_failed_attempt_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _traced(tmp_path, answering()) as it:
            pod = it.mesh.text.rpartition("podIP: ")[2].partition("}")[0]
            it.mesh.apply(it.mesh.text.replace(pod, address()))
            await it.mesh.get(it.authority)
            spans = await it.spans()

            assert tags(spans["attempt 1"])["error.type"]
            assert spans["attempt 1"].status.code == Status.STATUS_CODE_ERROR
            assert tags(spans[REQUEST])["error"] == "true"

    run(scenario())


def test_an_authorizer_and_a_limit_have_spans(tmp_path: Path) -> None:
    async def scenario() -> None:
        limiter = address()
        with rate_limit_server(limiter, 8081) as limits:
            async with _traced(tmp_path, answering(), QUESTIONS.replace("LIMITER", limiter)) as it:
                assert b" 200 " in await it.mesh.get(it.authority)
                spans = await it.spans()

                request = spans.pop(REQUEST)
                assert len(limits.requests) == 1
                assert {span.parent_span_id for span in spans.values()} == {request.span_id}
                authorize = next(it for name, it in spans.items() if name.startswith("authorize "))
                assert tags(authorize)["outcome"] == "ok"
                assert tags(spans[f"rate limit {limiter}:8081"])["outcome"] == "ok"
                assert authorize.span_id.hex().encode() in it.told(0, "traceparent")
                assert spans["attempt 1"].span_id.hex().encode() in it.told(1, "traceparent")

    run(scenario())


def test_b3_is_answered_with_b3(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _traced(tmp_path, answering()) as it:
            await it.mesh.get(
                it.authority, "/", f"x-b3-traceid: {TRACE}\r\nx-b3-spanid: 00f067aa0ba902b7\r\nx-b3-sampled: 1\r\n"
            )
            await it.mesh.get(it.authority, "/", f"b3: {TRACE}-00f067aa0ba902b7-0\r\n")
            spans = await it.spans()

            attempt = spans["attempt 1"].span_id.hex().encode()
            assert len(spans) == 2
            assert it.told(0, "x-b3-traceid") == TRACE.encode()
            assert it.told(0, "x-b3-spanid") == attempt
            assert attempt in it.told(0, "traceparent")
            assert it.told(1, "b3") == f"{TRACE}-00f067aa0ba902b7-0".encode()
            assert it.told(1, "traceparent") == b""

    run(scenario())


def test_who_is_not_sampled_tells_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _traced(tmp_path, answering(), OTEL_TRACES_SAMPLER="parentbased_always_off") as it:
            await it.mesh.get(it.authority)

            assert await it.spans() == {}
            assert it.told(0, "traceparent").endswith(b"-00")

    run(scenario())


def test_a_telemetry_objects_tags_are_on_spans(tmp_path: Path) -> None:
    spec = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: a}
spec:
  tracing:
    - randomSamplingPercentage: 100
      enableIstioTags: false
      customTags:
        user: {header: {name: X-User, defaultValue: nobody}}
        team: {literal: {value: books}}
        code: {formatter: {value: "%RESPONSE_CODE%"}}
        pod: {environment: {name: POD_NAME, defaultValue: nowhere}}
        node: {environment: {name: NODE_NAME, defaultValue: nowhere}}
        token: {environment: {name: TOKEN, defaultValue: hidden}}
"""

    async def scenario() -> None:
        variables = {"OTEL_TRACES_SAMPLER": "parentbased_always_off", "POD_NAME": "a" * 300, "TOKEN": "secret"}
        async with _traced(tmp_path, answering(), spec, **variables) as it:
            await it.mesh.get(it.authority, "/", "x-user: jason\r\n")
            found = tags((await it.spans())[REQUEST])

            assert (found["user"], found["team"], found["code"]) == ("jason", "books", "200")
            assert (found["pod"], found["node"], found["token"]) == ("a" * 256, "nowhere", "hidden")
            assert not [name for name in found if name.startswith("istio.")]

    run(scenario())
