"""A real Jaeger receives the spans of the laptop mesh: one page of Bookinfo is one trace, with its attempts."""

import re
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.kit.laptop import TOP, LaptopMesh, mesh_up
from tests.observability.jaeger import JAEGER, Jaeger, Span, jaeger
from waypoint.telemetry.tracing import start_tracer
from waypoint.telemetry.tracing_settings import TracingSettings

pytestmark = [
    pytest.mark.observability,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not JAEGER.is_built, reason="Jaeger is not built: python -m tests.observability does it"),
]

BOOKINFO = TOP / "examples" / "bookinfo"
INGRESS = "127.0.0.1:19090"
SERVICES = ("productpage", "details", "reviews-flaky", "ratings")
SERVER = {f"{it}.default.svc.cluster.local:9080/*" for it in SERVICES}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    with jaeger(tmp_path_factory.mktemp("jaeger")) as it:
        yield it


@pytest.fixture(scope="module")
def mesh(judge: Jaeger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopMesh]:
    folder = tmp_path_factory.mktemp("mesh")
    flaky = (BOOKINFO / "scenarios" / "flaky-reviews.yaml").read_text()
    flaky = flaky.replace("reviews:v1", "reviews:v2").replace(
        "SERVICE_VERSION, value: v1", "SERVICE_VERSION, value: v2"
    )
    (folder / "flaky.yaml").write_text(flaky)
    paths = [str(it) for it in (BOOKINFO / "platform", BOOKINFO / "gateway.yaml", folder / "flaky.yaml")]
    programs = ["--programs", str(BOOKINFO / "programs.yaml"), "--ingress", f"productpage={INGRESS}"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", judge.http)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with mesh_up(folder, *paths, *programs) as mesh:
            yield mesh


def page() -> None:
    with urllib.request.urlopen(f"http://{INGRESS}/productpage", timeout=10) as answer:
        assert answer.status == 200


def whole(trace: list[Span]) -> bool:
    """Whether a trace has all requests of a page, one of which was tried again."""
    names = {it.name for it in trace}
    return names >= SERVER and "attempt 2" in names


def test_a_page_is_one_connected_trace_with_its_attempts(judge: Jaeger, mesh: LaptopMesh) -> None:
    deadline = time.monotonic() + 60
    while not (found := [it for it in judge.traces("waypoint.default") if whole(it)]):
        assert time.monotonic() < deadline, judge.traces("waypoint.default")
        page()
        time.sleep(0.5)

    spans = {it.id: it for it in found[0]}
    requests = [it for it in spans.values() if it.name in SERVER]
    attempts = [it for it in spans.values() if it.name.startswith("attempt ")]
    [first] = [it for it in spans.values() if it.parent not in spans]
    assert first.name == "productpage.default.svc.cluster.local:9080/*"
    assert len(requests) == 4
    assert {spans[it.parent].name[:8] for it in requests if it is not first} == {"attempt "}
    assert {spans[it.parent].name for it in attempts} == SERVER
    assert all(it.tags["span.kind"] == "server" for it in requests)
    [failed] = [it for it in attempts if it.tags.get("http.response.status_code") == 503]
    [again] = [it for it in attempts if it.name == "attempt 2"]
    assert failed.parent == again.parent
    assert failed.tags["error"] is True
    assert again.tags["http.response.status_code"] == 200
    assert first.tags["istio.canonical_service"] == "waypoint"


def test_the_exemplar_of_a_duration_leads_to_its_trace(judge: Jaeger, mesh: LaptopMesh) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    scrape = urllib.request.Request(mesh.addresses["metrics", "waypoint default/waypoint"], headers=accept)
    with urllib.request.urlopen(scrape, timeout=10) as answer:
        text = answer.read().decode()

    exemplars = re.findall(r"^istio_request_duration_milliseconds_bucket.* # {trace_id=\"(\w+)\",", text, re.MULTILINE)
    assert exemplars
    becomes(True, lambda: set(exemplars) <= {it.trace for trace in judge.traces("waypoint.default") for it in trace})


def becomes(wanted: object, value: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while value() != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_spans_arrive_over_grpc(judge: Jaeger) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": judge.grpc, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    tracer = start_tracer(TracingSettings.parse(variables, "over-grpc"))
    assert tracer is not None
    span = tracer.begin([], {}, time.time_ns())
    assert span is not None
    span.end("hello", {}, is_error=False, end_ns=time.time_ns())
    tracer.close()

    becomes([["hello"]], lambda: [[it.name for it in trace] for trace in judge.traces("over-grpc")])
