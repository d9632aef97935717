import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from l4.telemetry.access_log import AccessLog
from l4.telemetry.metrics import MeshMetrics
from policies.attributes import ClusterName, Identity, Peer
from policies.balancing.endpoint import Endpoint, WorkloadLabels
from policies.verdict import ResponseFlag
from waypoint.metrics import waypoint_metrics
from waypoint.telemetry import exchanges as telemetry
from waypoint.telemetry.exchanges import Telemetry
from waypoint.telemetry.record import ExchangeRecord
from waypoint.telemetry.span_tags import span_attributes, span_name

PRODUCTPAGE = Identity("cluster.local", "default", "productpage")
REVIEWS = Identity("cluster.local", "default", "reviews")


@dataclass(frozen=True)
class _Service:
    hostname: str = "unknown"
    name: str = "unknown"
    namespace: str = "unknown"


def _labels(name: str, identity: Identity) -> WorkloadLabels:
    return WorkloadLabels(f"{name}-v1", "default", str(identity), name, "v1", name, "v1", "Kubernetes")


SOURCE = _labels("productpage", PRODUCTPAGE)
ENDPOINT = Endpoint("10.244.1.12", 9080, REVIEWS, _labels("reviews", REVIEWS))
SERVICE = _Service("reviews.default.svc.cluster.local", "reviews", "default")

ANSWERED = ExchangeRecord(
    started_at=1_700_000_000.123,
    peer=Peer(PRODUCTPAGE, "10.244.1.9", 41234),
    source=SOURCE,
    downstream_local=("10.96.1.2", 9080),
    service=SERVICE,
    method=b"GET",
    original_target=b"/reviews/0?x=1",
    protocol="HTTP/1.1",
    authority=b"reviews:9080",
    user_agent=b"curl/8.0",
    request_id=b"6ad7bfa0-1111-4222-8333-944444444444",
    route_name="default",
    cluster=ClusterName("inbound-vip|9080|http|reviews.default.svc.cluster.local"),
    endpoint=ENDPOINT,
    status=200,
    detail="via_upstream",
    upstream_service_time_ms=2,
    bytes_sent=325,
    request_bytes=400,
    response_bytes=600,
    duration_ms=3.7,
)


def _samples(metrics: MeshMetrics, name: str) -> list[Sample]:
    families = text_string_to_metric_families(metrics.render("")[0].decode())
    return [sample for family in families for sample in family.samples if sample.name == name]


@pytest.fixture
def line_of(tmp_path: Path) -> Callable[[ExchangeRecord], str]:
    def write(record: ExchangeRecord) -> str:
        log = AccessLog(str(tmp_path / "access.log"))
        Telemetry(waypoint_metrics("1"), log).record(record)
        log.close()
        return (tmp_path / "access.log").read_text()

    return write


def test_an_answered_request_is_logged_in_envoys_default_format(line_of: Callable[[ExchangeRecord], str]) -> None:
    assert line_of(ANSWERED) == (
        '[2023-11-14T22:13:20.123Z] "GET /reviews/0?x=1 HTTP/1.1" 200 - via_upstream - "-" 0 325 3 2 "-" "curl/8.0" '
        '"6ad7bfa0-1111-4222-8333-944444444444" "reviews:9080" "envoy://connect_originate/10.244.1.12:9080" '
        "inbound-vip|9080|http|reviews.default.svc.cluster.local envoy://internal_client_address/ 10.96.1.2:9080 "
        "10.244.1.9:41234 - default\n"
    )


def test_what_is_missing_is_a_dash(line_of: Callable[[ExchangeRecord], str]) -> None:
    record = ExchangeRecord(
        started_at=0, peer=Peer(None, "::1", 1), source=SOURCE, downstream_local=("::2", 2), service=_Service()
    )

    assert line_of(record) == (
        '[1970-01-01T00:00:00.000Z] "- - -" 0 - - - "-" 0 0 0 - "-" "-" "-" "-" "-" - - [::2]:2 [::1]:1 - -\n'
    )


def test_a_failed_request_says_why(line_of: Callable[[ExchangeRecord], str]) -> None:
    record = replace(
        ANSWERED,
        status=503,
        flags=(ResponseFlag.UPSTREAM_RETRY_LIMIT_EXCEEDED, ResponseFlag.UPSTREAM_CONNECTION_FAILURE),
        detail="upstream_reset_before_response_started{remote connection failure}",
        upstream_transport_failure_reason='certificate of "evil"\nforged',
        upstream_service_time_ms=None,
        endpoint=replace(ENDPOINT, identity=None),
    )

    line = line_of(record)

    assert ' 503 URX,UF upstream_reset_before_response_started{remote_connection_failure} - "certificate of ' in line
    assert r'"certificate of \x22evil\x22\x0aforged" 0 325 3 - ' in line
    assert ' "10.244.1.12:9080" inbound-vip|9080|http|reviews.default.svc.cluster.local - 10.96.1.2:9080 ' in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    "field", ["method", "original_target", "x_forwarded_for", "user_agent", "request_id", "authority"]
)
@pytest.mark.parametrize(
    "value", [b'a"b', b"a\nb", b"a\r\n[2023", b"a\x00", b"\xff\xfe", b"\x1b[2J", b"\\x22", b"\x7f"]
)
def test_no_client_forges_a_line_or_a_field(field: str, value: bytes, line_of: Callable[[ExchangeRecord], str]) -> None:
    harmless = line_of(replace(ANSWERED, **{field: b"harmless"}))  # type: ignore[arg-type]

    line = line_of(replace(ANSWERED, **{field: value})).removeprefix(harmless)  # type: ignore[arg-type]

    assert line.count("\n") == 1
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert len(shlex.split(line.replace("\\", "/"))) == len(shlex.split(harmless))


def test_a_request_is_counted_under_istios_labels() -> None:
    metrics = waypoint_metrics("1")
    reporter = Telemetry(metrics, access_log=None)

    reporter.record(ANSWERED)
    reporter.record(replace(ANSWERED, duration_ms=30))

    [requests] = _samples(metrics, "istio_requests_total")
    assert requests.value == 2
    assert requests.labels == {
        "reporter": "waypoint",
        "source_workload": "productpage-v1",
        "source_canonical_service": "productpage",
        "source_canonical_revision": "v1",
        "source_workload_namespace": "default",
        "source_principal": "spiffe://cluster.local/ns/default/sa/productpage",
        "source_app": "productpage",
        "source_version": "v1",
        "source_cluster": "Kubernetes",
        "destination_service": "reviews.default.svc.cluster.local",
        "destination_service_namespace": "default",
        "destination_service_name": "reviews",
        "destination_workload": "reviews-v1",
        "destination_canonical_service": "reviews",
        "destination_canonical_revision": "v1",
        "destination_workload_namespace": "default",
        "destination_principal": "spiffe://cluster.local/ns/default/sa/reviews",
        "destination_app": "reviews",
        "destination_version": "v1",
        "destination_cluster": "Kubernetes",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "-",
        "connection_security_policy": "mutual_tls",
    }
    assert [s.value for s in _samples(metrics, "istio_request_duration_milliseconds_sum")] == [33.7]
    assert [s.value for s in _samples(metrics, "istio_request_bytes_sum")] == [800]
    assert [s.value for s in _samples(metrics, "istio_response_bytes_sum")] == [1200]


def test_a_request_without_endpoint_names_the_service_and_the_flags() -> None:
    metrics = waypoint_metrics("1")

    Telemetry(metrics, None).record(
        replace(ANSWERED, endpoint=None, status=503, flags=(ResponseFlag.NO_HEALTHY_UPSTREAM,))
    )

    [requests] = _samples(metrics, "istio_requests_total")
    assert requests.labels["destination_service_name"] == "reviews"
    assert requests.labels["destination_workload"] == "unknown"
    assert (requests.labels["response_code"], requests.labels["response_flags"]) == ("503", "UH")


@pytest.mark.parametrize(("sent", "label"), [("0", "0"), ("14", "14"), ("", ""), ("99999", "2"), ("x" * 9999, "2")])
def test_a_grpc_status_is_a_label_only_when_it_is_one(sent: str, label: str) -> None:
    metrics = waypoint_metrics("1")

    Telemetry(metrics, None).record(replace(ANSWERED, is_grpc=True, grpc_status=sent))

    [requests] = _samples(metrics, "istio_requests_total")
    assert (requests.labels["request_protocol"], requests.labels["grpc_response_status"]) == ("grpc", label)


def test_nothing_is_counted_twice_or_lost_when_bound_series_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MAX_BOUND_SERIES", 2)
    metrics = waypoint_metrics("1")
    reporter = Telemetry(metrics, None)

    for status in (200, 201, 202, 200, 201, 202):
        reporter.record(replace(ANSWERED, status=status))

    assert {s.labels["response_code"]: s.value for s in _samples(metrics, "istio_requests_total")} == {
        "200": 2,
        "201": 2,
        "202": 2,
    }


def test_equal_endpoints_of_two_snapshots_are_one_series() -> None:
    metrics = waypoint_metrics("1")
    reporter = Telemetry(metrics, None)

    for _ in range(3):
        reporter.record(replace(ANSWERED, endpoint=replace(ENDPOINT), service=replace(SERVICE)))

    assert [s.value for s in _samples(metrics, "istio_requests_total")] == [3]


def test_an_opaque_connection_is_counted_and_logged(tmp_path: Path) -> None:
    metrics = waypoint_metrics("1")
    log = AccessLog(str(tmp_path / "access.log"))
    reporter = Telemetry(metrics, log)
    record = ExchangeRecord(
        started_at=0,
        peer=Peer(PRODUCTPAGE, "10.244.1.9", 1),
        source=SOURCE,
        downstream_local=("10.96.1.2", 3306),
        service=SERVICE,
        endpoint=ENDPOINT,
        bytes_received=5,
        bytes_sent=7,
    )

    series = reporter.tcp_series(record)
    series.opened.add()
    series.received.add(5)
    series.sent.add(7)
    series.closed.add()
    reporter.record_tcp(record)
    log.close()

    for name, value in (("connections_opened", 1), ("connections_closed", 1), ("received_bytes", 5), ("sent_bytes", 7)):
        [sample] = _samples(metrics, f"istio_tcp_{name}_total")
        assert sample.value == value
        assert (sample.labels["reporter"], sample.labels["request_protocol"]) == ("waypoint", "tcp")
    assert '"- - -" 0 - - - "-" 5 7 0 - ' in (tmp_path / "access.log").read_text()


def test_a_span_has_no_more_of_a_clients_texts_than_envoys() -> None:
    long = replace(ANSWERED, original_target=b"/" + b"a" * 60_000, user_agent=b"b" * 60_000)

    attributes = span_attributes(long)

    assert attributes["url.path"] == "/" + "a" * 255
    assert str(attributes["http.url"]).endswith("/" + "a" * 255)
    assert attributes["user_agent.original"] == "b" * 256


def test_a_span_has_the_standard_attributes_and_no_query() -> None:
    attributes = span_attributes(ANSWERED)

    assert span_name(ANSWERED) == "reviews.default.svc.cluster.local:9080/*"
    assert attributes["http.request.method"] == "GET"
    assert attributes["url.path"] == "/reviews/0"
    assert attributes["http.response.status_code"] == 200
    assert attributes["network.protocol.version"] == "1.1"
    assert attributes["upstream_cluster"] == ANSWERED.cluster
    assert attributes["istio.destination_workload"] == "reviews-v1"
    assert "error.type" not in attributes
    assert "x=1" not in repr(attributes)


@pytest.mark.parametrize(
    ("status", "detail", "error"),
    [
        (404, "via_upstream", None),
        (500, "via_upstream", "500"),
        (503, "no_healthy_upstream", "no_healthy_upstream"),
        (0, "downstream_remote_disconnect", "downstream_remote_disconnect"),
    ],
)
def test_aspan_names_its_error(status: int, detail: str, error: str | None) -> None:
    assert span_attributes(replace(ANSWERED, status=status, detail=detail)).get("error.type") == error
